package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Time given to a child to end by itself, and to be gone after a kill.
const (
	endGrace  = 3 * time.Second
	killGrace = 5 * time.Second
)

// command is a child process to start.
type command struct {
	Name  string // for messages and log files
	Path  string
	Args  []string
	Env   []string       // besides the caller's
	Dir   string         // its log goes here; also its working directory
	Death syscall.Signal // sent to it when this process dies
	// FirstLine has start wait for the first line of standard output, which is
	// then not logged.
	FirstLine bool
}

// child is a started process. It leads a process group of its own, and
// whatever is left of the group is killed when it ends.
type child struct {
	name   string
	pid    int
	log    string // file of its output
	line   string // first line of output, if asked for
	exited chan struct{}
	err    error // how it ended; read it after exited is closed
}

// start must be called from the main thread: see main.
func start(c command) (*child, error) {
	logPath := filepath.Join(c.Dir, c.Name+".log")
	// Appending keeps what a truncation of the file leaves consistent.
	logFile, err := os.OpenFile(logPath, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Name, err)
	}
	defer func() { _ = logFile.Close() }() // the child has its own copy

	cmd := exec.Command(c.Path, c.Args...)
	cmd.Dir = c.Dir
	cmd.Env = append(os.Environ(), c.Env...)
	cmd.Stdout, cmd.Stderr = logFile, logFile
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: c.Death}
	var stdout io.ReadCloser
	if c.FirstLine {
		cmd.Stdout = nil
		if stdout, err = cmd.StdoutPipe(); err != nil {
			return nil, fmt.Errorf("start %s: %w", c.Name, err)
		}
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Name, err)
	}
	p := &child{name: c.Name, pid: cmd.Process.Pid, log: logPath, exited: make(chan struct{})}
	if c.FirstLine {
		line, err := bufio.NewReader(stdout).ReadString('\n')
		p.line = strings.TrimSpace(line)
		if err != nil {
			go p.reap(cmd)
			return nil, errors.Join(fmt.Errorf("start %s: its first line: %w%s", c.Name, err, p.tail()), p.end())
		}
	}
	go p.reap(cmd)
	return p, nil
}

// reap waits for the end of the child. Its process group is killed while the
// child is still a zombie, so that the group's number cannot be another's yet.
func (p *child) reap(cmd *exec.Cmd) {
	for {
		err := unix.Waitid(unix.P_PID, p.pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	_ = unix.Kill(-p.pid, unix.SIGKILL) // there may be nobody left to kill
	p.err = cmd.Wait()
	close(p.exited)
}

// end asks the child to end, kills it when it does not, and returns once it is
// gone.
func (p *child) end() error {
	for _, step := range []struct {
		signal unix.Signal
		wait   time.Duration
	}{{unix.SIGTERM, endGrace}, {unix.SIGKILL, killGrace}} {
		select {
		case <-p.exited:
			return nil
		default:
		}
		// The child is not reaped before exited is closed, and a signal to a
		// zombie is harmless: this number is never another's.
		_ = unix.Kill(p.pid, step.signal)
		select {
		case <-p.exited:
			return nil
		case <-time.After(step.wait):
		}
	}
	return fmt.Errorf("%s (process %d) does not end", p.name, p.pid)
}

// alive reports a child that ended without being told to.
func (p *child) alive() error {
	select {
	case <-p.exited:
		return p.death()
	default:
		return nil
	}
}

func (p *child) death() error {
	if p.err == nil {
		return fmt.Errorf("%s ended by itself%s", p.name, p.tail())
	}
	return fmt.Errorf("%s ended by itself: %w%s", p.name, p.err, p.tail())
}

// tail returns the last lines the child printed, for a message.
func (p *child) tail() string {
	text, err := os.ReadFile(p.log)
	if err != nil || len(text) == 0 {
		return ""
	}
	const most = 2000
	text = text[max(0, len(text)-most):]
	return "; its last lines:\n" + strings.TrimSpace(string(text))
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"
)

// What a shell answers for programs that cannot be run, and adds to a signal.
const (
	exitNotExecutable = 126
	exitNotFound      = 127
	exitSignal        = 128
)

// child is what register runs.
type child struct {
	name    string
	command *exec.Cmd
	exited  chan struct{} // closed when it has ended
}

// startChild runs a command in a process group of its own, so that the
// terminal's Ctrl-C reaches it in order: after the drain. The kernel ends it
// when this program is killed; the calling goroutine must be locked to a thread
// that lives as long as this program, for Linux goes by the thread.
func startChild(args []string, stdout, stderr io.Writer) (*child, error) {
	p := &child{name: args[0], command: exec.Command(args[0], args[1:]...), exited: make(chan struct{})}
	p.command.Stdout, p.command.Stderr = stdout, stderr
	p.command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := p.command.Start(); err != nil {
		code := exitNotExecutable
		if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
			code = exitNotFound
		}
		return nil, exitError{code, fmt.Errorf("run %s: %w", p.name, err)}
	}
	go func() {
		defer close(p.exited)
		_ = p.command.Wait() // code tells
	}()
	return p, nil
}

// signal reaches the whole group; a program that has ended gets none.
func (p *child) signal(s syscall.Signal) {
	select {
	case <-p.exited:
	default:
		_ = syscall.Kill(-p.command.Process.Pid, s) // it may have ended by now
	}
}

// relay passes signals on until ctx ends. The first SIGINT or SIGTERM is the
// caller's, who drains first; the second kills the program at once.
func (p *child) relay(ctx context.Context) {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2)
	defer signal.Stop(signals)
	asked := false
	for {
		select {
		case <-ctx.Done():
			return
		case s := <-signals:
			switch s := s.(syscall.Signal); {
			case s != syscall.SIGINT && s != syscall.SIGTERM:
				p.signal(s)
			case asked:
				p.signal(syscall.SIGKILL)
			default:
				asked = true
			}
		}
	}
}

// stop ends the program: SIGTERM, and SIGKILL when it takes longer than grace.
func (p *child) stop(grace time.Duration) {
	p.signal(syscall.SIGTERM)
	select {
	case <-p.exited:
	case <-time.After(grace):
		p.signal(syscall.SIGKILL)
		<-p.exited
	}
}

// code is the exit code, once it has ended, as a shell has it.
func (p *child) code() int {
	status, ok := p.command.ProcessState.Sys().(syscall.WaitStatus)
	if ok && status.Signaled() {
		return exitSignal + int(status.Signal())
	}
	return p.command.ProcessState.ExitCode()
}

// readiness is how the program is known to serve.
type readiness struct {
	address string
	path    string // "" asks for a connection only
	timeout time.Duration
}

// await polls until the program serves or ctx ends.
func (r readiness) await(ctx context.Context, name string) error {
	limited, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := r.check(limited)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-limited.Done():
			return fmt.Errorf("%s does not serve at %s within %s: %w; is the port right, and does it listen on that address?", name, r.address, r.timeout, err)
		case <-ticker.C:
		}
	}
}

func (r readiness) check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if r.path == "" {
		var dialer net.Dialer
		conn, err := dialer.DialContext(ctx, "tcp", r.address)
		if err != nil {
			return err
		}
		return conn.Close()
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.address+r.path, nil)
	if err != nil {
		return err
	}
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	if response.StatusCode/100 != 2 {
		err = fmt.Errorf("GET %s: %s", r.path, response.Status)
	}
	return errors.Join(err, response.Body.Close())
}

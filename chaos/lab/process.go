package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/grayfed/grayfed/chaos/guard"
)

// grace is how long a process may take to end after SIGTERM before it is
// killed.
const grace = 5 * time.Second

// process is one child of the lab.
type process struct {
	name    string // "az1/edge", as its log lines are prefixed
	command *exec.Cmd
	exited  chan struct{} // closed when it has ended and its output is drained
	err     error         // set before exited is closed
}

// spawner starts processes from one operating-system thread that lives as long
// as the lab: Linux kills a child with Pdeathsig when the thread that started
// it ends, not when the process does.
type spawner struct {
	requests chan func()
	ending   chan struct{}
	done     chan struct{}
}

func newSpawner() *spawner {
	return &spawner{requests: make(chan func()), ending: make(chan struct{}), done: make(chan struct{})}
}

func (s *spawner) run() {
	runtime.LockOSThread()
	defer close(s.done)
	for {
		select {
		case request := <-s.requests:
			request()
		case <-s.ending:
			return
		}
	}
}

func (s *spawner) stop() {
	close(s.ending)
	<-s.done
}

// start runs binary with args in a namespace and copies its output, line by
// line and prefixed with name, to out. Namespace "" is where the lab runs; one
// lab's are all the one or all the other.
func (s *spawner) start(name, namespace, binary string, args []string, out *lineWriter) (*process, error) {
	p := &process{name: name, command: exec.Command(binary, args...), exited: make(chan struct{})}
	reader, writer, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p.command.Stdout, p.command.Stderr = writer, writer
	// A group of its own keeps the terminal's Ctrl-C from the children: the
	// lab ends them in order. Pdeathsig ends them when the lab is killed.
	p.command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started := make(chan error, 1)
	launch := func() {
		if namespace == "" {
			started <- guard.Do(p.command.Start)
			return
		}
		started <- visit(namespace, p.command.Start) // the child inherits it
	}
	select {
	case s.requests <- launch:
		err = <-started
	case <-s.ending:
		err = errors.New("the lab ends")
	}
	err = errors.Join(err, writer.Close())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", name, err), reader.Close())
	}
	go p.wait(reader, out)
	return p, nil
}

func (p *process) wait(output io.ReadCloser, out *lineWriter) {
	defer close(p.exited)
	copied := make(chan struct{})
	var unheard error
	go func() {
		defer close(copied)
		unheard = guard.Do(func() error {
			out.copy(p.name, output)
			return nil
		})
		_, _ = io.Copy(io.Discard, output) // a process that is not read would stand still
	}()
	p.err = p.command.Wait()
	select {
	case <-copied:
	case <-time.After(time.Second): // a grandchild holds the pipe open
	}
	closed := output.Close()
	<-copied
	p.err = errors.Join(p.err, closed, unheard)
}

// running reports whether the process has not ended.
func (p *process) running() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// killed reports whether it ended by a signal: somebody's drill, not its own
// failure.
func (p *process) killed() bool {
	exit, ok := errors.AsType[*exec.ExitError](p.err)
	if !ok {
		return false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	return ok && status.Signaled()
}

func (p *process) describe() string {
	if p.err == nil {
		return "exited"
	}
	return p.err.Error()
}

// end asks all processes to end, waits, and kills those that do not in time or
// when ctx ends.
func end(ctx context.Context, processes []*process) {
	for _, p := range processes {
		if p.running() {
			_ = p.command.Process.Signal(syscall.SIGTERM)
			_ = p.command.Process.Signal(syscall.SIGCONT) // one that is frozen hears nothing
		}
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	for _, p := range processes {
		select {
		case <-p.exited:
			continue
		case <-timer.C:
			timer.Reset(0) // the others have had their time too
		case <-ctx.Done():
		}
		_ = p.command.Process.Kill()
		<-p.exited
	}
}

// lineWriter writes whole lines of several processes to one writer.
type lineWriter struct {
	mu    sync.Mutex
	out   io.Writer
	width int // prefixes are padded to it
}

// maxLine bounds what one line may take of memory; longer ones are cut.
const maxLine = 64 << 10

func (w *lineWriter) copy(name string, from io.Reader) {
	lines := bufio.NewReaderSize(from, maxLine)
	for {
		line, prefix, err := lines.ReadLine()
		if err != nil {
			return
		}
		w.print(name, string(line))
		for prefix && err == nil {
			_, prefix, err = lines.ReadLine()
		}
	}
}

func (w *lineWriter) print(name, line string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, _ = fmt.Fprintf(w.out, "%s%s | %s\n", name, strings.Repeat(" ", max(0, w.width-len(name))), line)
}

package chaos

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/grayfed/grayfed/chaos/fault"
)

const (
	// maxOutput is how much of the end of a command's output its error has.
	maxOutput = 1000
	// outputDelay is how long the output of a program that has ended is read on:
	// a child that it left behind may have it open for ever.
	outputDelay = time.Second
	// breakGrace is how long a program that breaks may go on when its run ends:
	// what it has begun elsewhere may outlive it, and come after the mending.
	breakGrace = 10 * time.Second
)

// commands break and mend a real deployment.
type commands struct {
	dir    string // where they run
	byKind map[string]command
}

var _ fault.Commands = commands{}

// Command implements fault.Commands.
func (c commands) Command(spec fault.Spec) (fault.Fault, bool) {
	own, ok := c.byKind[spec.Kind]
	if !ok {
		return nil, false
	}
	own.Timeout = cmp.Or(own.Timeout, defaultCommandTimeout)
	return &commandFault{command: own, dir: c.dir, environment: environment(&spec), what: describe(&spec), grace: breakGrace}, true
}

// commandFault is a fault that programs of the operator do.
type commandFault struct {
	command     command
	dir         string
	environment []string
	what        string
	grace       time.Duration
	begun       bool // there may be something to mend
}

var _ fault.Fault = (*commandFault)(nil)

// Break implements fault.Fault. Its program may end by itself for a while after
// ctx has.
func (f *commandFault) Break(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	f.begun = true
	running, kill := context.WithCancel(context.WithoutCancel(ctx))
	defer kill()
	stop := context.AfterFunc(ctx, func() {
		select {
		case <-running.Done():
		case <-time.After(f.grace):
			kill()
		}
	})
	defer stop()
	return f.run(running, f.command.Break)
}

// Mend implements fault.Fault. Its program has its own time and no other: one
// that is cut short may leave a deployment broken.
func (f *commandFault) Mend(ctx context.Context) error {
	if !f.begun {
		return nil
	}
	if err := f.run(context.WithoutCancel(ctx), f.command.Mend); err != nil {
		return err
	}
	f.begun = false
	return nil
}

// String implements fault.Fault.
func (f *commandFault) String() string { return f.what }

// run runs a program to its end. It is killed with its children when its time
// is over; a child that it leaves behind after its end may go on. It needs
// nothing of the disk, which may be what is broken.
func (f *commandFault) run(ctx context.Context, argv []string) error {
	limited, cancel := context.WithTimeout(ctx, f.command.Timeout)
	defer cancel()
	program := exec.CommandContext(limited, argv[0], argv[1:]...)
	program.Dir = f.dir
	program.Env = append(os.Environ(), f.environment...)
	output := new(tail)
	program.Stdout, program.Stderr = output, output
	program.WaitDelay = outputDelay
	// A group of its own: Ctrl-C is the drill's to hear.
	program.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	program.Cancel = func() error { return syscall.Kill(-program.Process.Pid, syscall.SIGKILL) }
	failed := program.Run()
	if failed == nil || errors.Is(failed, exec.ErrWaitDelay) { // the latter: it ended well, and left a child behind
		return nil
	}
	if ctx.Err() == nil && limited.Err() != nil {
		failed = fmt.Errorf("not done within %s", f.command.Timeout)
	}
	return fmt.Errorf("%s: %w%s", f.line(argv), failed, output)
}

// line is what an operator would type to run it by hand.
func (f *commandFault) line(argv []string) string {
	words := make([]string, 0, 3+len(f.environment)+len(argv))
	if f.dir != "" {
		words = append(words, "cd", quoted(f.dir), "&&")
	}
	for _, assignment := range f.environment {
		name, value, _ := strings.Cut(assignment, "=")
		words = append(words, name+"="+quoted(value))
	}
	for _, word := range argv {
		words = append(words, quoted(word))
	}
	return strings.Join(words, " ")
}

// quoted is a word as any shell reads it, on one line as verdicts are.
func quoted(word string) string {
	if lines := strings.Split(word, "\n"); len(lines) > 1 {
		for i := range lines {
			lines[i] = quoted(lines[i])
		}
		return `"$(printf '%s\n' ` + strings.Join(lines, " ") + `)"`
	}
	safe := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:=,@%+", r)
	}
	if word != "" && strings.IndexFunc(word, func(r rune) bool { return !safe(r) }) < 0 {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// tail is the end of a command's output.
type tail struct{ kept []byte }

var _ io.Writer = (*tail)(nil)

// Write implements io.Writer.
func (t *tail) Write(text []byte) (int, error) {
	t.kept = append(t.kept, text[max(0, len(text)-maxOutput):]...)
	t.kept = t.kept[max(0, len(t.kept)-maxOutput):]
	return len(text), nil
}

// String is what an error has of it.
func (t *tail) String() string {
	text := strings.TrimSpace(string(t.kept))
	if text == "" {
		return ""
	}
	return ": " + text
}

// environment has what a spec says; what it leaves out is not set.
func environment(s *fault.Spec) []string {
	var list []string
	add := func(name, value string) {
		if value != "" {
			list = append(list, "GRAYFED_FAULT_"+name+"="+value)
		}
	}
	number := func(name string, n int64) {
		if n != 0 {
			add(name, strconv.FormatInt(n, 10))
		}
	}
	span := func(name string, d time.Duration) {
		if d != 0 {
			add(name, d.String())
		}
	}
	add("KIND", s.Kind)
	add("PARTS", strings.Join(s.Parts, "\n"))
	add("FROM", strings.Join(s.From, "\n"))
	add("TO", strings.Join(s.To, "\n"))
	if s.Client {
		add("CLIENT", "1")
	}
	add("ZONES", strings.Join(s.Zones, "\n"))
	number("PERCENT", int64(s.Percent))
	span("DELAY", s.Delay)
	number("RATE", s.Rate)
	span("JUMP", s.Jump)
	number("COUNT", int64(s.Count))
	number("MEMORY", s.Memory)
	number("CPU", int64(s.CPU))
	number("PORT", int64(s.Port))
	add("BINARY", s.Binary)
	number("SEED", s.Seed)
	add("FLAW", s.Flaw)
	return list
}

// describe is a spec in a few words.
func describe(s *fault.Spec) string {
	where := slices.Concat(s.Parts, s.From, s.Zones)
	text := strings.TrimSpace(s.Kind + " " + strings.Join(where, ", "))
	if len(s.To) > 0 {
		text += " to " + strings.Join(s.To, ", ")
	}
	return text
}

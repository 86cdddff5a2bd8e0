package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
)

// startTimeout bounds how long a part may take to listen when it is started
// again and ctx has no end of its own.
const startTimeout = 30 * time.Second

// Kinds of parts.
const (
	etcdPart     = "etcd"
	consulPart   = "consul"
	edgePart     = "edge"
	instancePart = "instance"
)

// part is one process of the lab: what it is, and the process that it is now.
type part struct {
	kind string
	name string // "az1/edge"
	node string // where it runs
	// Of an instance.
	id, version string
	args        []string
	address     string // it listens there once it serves; "" when addressFile tells
	// addressFile is written by the process once it listens.
	addressFile string

	// Guarded by Lab.mu.
	binary   string
	process  *process
	expected bool // its end is somebody's drill
}

// Parts are the lab's processes: "az1/edge", "az1/etcd" (on loopback "etcd"),
// "az1/user-service v2-beta", "w1/consul".
func (l *Lab) Parts() []string {
	names := make([]string, len(l.parts))
	for n, p := range l.parts {
		names[n] = p.name
	}
	return names
}

// Nodes are the lab's zones and its witnesses; none on loopback, where there is
// no network between them.
func (l *Lab) Nodes() []string {
	if !l.opts.Namespaces {
		return nil
	}
	var nodes []string
	for _, z := range l.opts.Zones {
		nodes = append(nodes, z.Name)
	}
	return append(nodes, witnesses()...)
}

func (l *Lab) part(name string) (*part, error) {
	for _, p := range l.parts {
		if p.name == name {
			return p, nil
		}
	}
	return nil, fmt.Errorf("no part %q: there are %s", name, strings.Join(l.Parts(), ", "))
}

// Pid is the process id of a part that runs.
func (l *Lab) Pid(name string) (int, error) {
	p, err := l.part(name)
	if err != nil {
		return 0, err
	}
	process, err := l.running(p)
	if err != nil {
		return 0, err
	}
	return process.command.Process.Pid, nil
}

// running is the process of a part that has not ended.
func (l *Lab) running(p *part) (*process, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p.process == nil || !p.process.running() {
		return nil, fmt.Errorf("%s does not run: %w", p.name, os.ErrProcessDone)
	}
	return p.process, nil
}

// Signal sends a signal to a part. If it ends of it, the lab goes on; after
// SIGKILL, Signal waits for that. Signal 0 is sent to nobody and asks whether
// it runs. The error of a part that has ended is an [os.ErrProcessDone].
func (l *Lab) Signal(name string, signal syscall.Signal) error {
	p, err := l.part(name)
	if err != nil {
		return err
	}
	process, err := l.running(p)
	if err != nil {
		return fmt.Errorf("signal %s: %w", signal, err)
	}
	if signal != 0 && signal != syscall.SIGSTOP && signal != syscall.SIGCONT {
		l.mu.Lock()
		p.expected = true
		l.mu.Unlock()
	}
	if err := process.command.Process.Signal(signal); err != nil {
		if errors.Is(err, os.ErrProcessDone) {
			<-process.exited // so that whoever hears it can start it again
		}
		return fmt.Errorf("signal %s to %s: %w", signal, name, err)
	}
	if signal == syscall.SIGKILL {
		<-process.exited
	}
	return nil
}

// SetBinary has a part run another program from its next start on; "" is the
// lab's own again.
func (l *Lab) SetBinary(name, path string) error {
	p, err := l.part(name)
	if err != nil {
		return err
	}
	if path == "" {
		path = l.program(p)
	} else if err := executable(path); err != nil {
		return fmt.Errorf("program of %s: %w", name, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	p.binary = path
	return nil
}

func executable(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.IsDir() || info.Mode()&0o111 == 0 {
		return fmt.Errorf("%s is no program", path)
	}
	return nil
}

// Start starts a part that has ended, with the arguments it had, and returns
// once it listens. An error is also that it runs already, or that it ended
// before it listened.
func (l *Lab) Start(ctx context.Context, name string) error {
	p, err := l.part(name)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	process, err := l.start(p)
	if err != nil {
		return err
	}
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		err := l.listens(ctx, p)
		if err == nil {
			break
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("start %s: it does not listen: %w", name, err)
		case <-process.exited:
			return fmt.Errorf("start %s: it ended at once: %s", name, process.describe())
		case <-ticker.C:
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	p.expected = false
	return nil
}

// start starts the process of a part that has none. Until it is known to
// listen, its end is the caller's to judge.
func (l *Lab) start(p *part) (*process, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.ended: // nobody would end it
		return nil, fmt.Errorf("start %s: the lab has ended", p.name)
	default:
	}
	if p.process != nil && p.process.running() {
		return nil, fmt.Errorf("start %s: it runs", p.name)
	}
	if p.addressFile != "" {
		if err := os.Remove(p.addressFile); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("start %s: %w", p.name, err)
		}
	}
	var namespace string
	if l.network != nil {
		namespace = l.network.namespace(p.node)
	}
	process, err := l.spawner.start(p.name, namespace, p.binary, p.args, l.out)
	if err != nil {
		return nil, err
	}
	p.process, p.expected = process, true
	l.watchers.Go(func() {
		<-process.exited
		select {
		case l.deaths <- death{p, process}:
		case <-l.ended:
		}
	})
	return process, nil
}

// listens is nil when a part takes connections. It is asked from within the
// part's own node: what is wrong with the network is no matter here.
func (l *Lab) listens(ctx context.Context, p *part) error {
	address, err := l.addressOf(p)
	if err != nil {
		return err
	}
	conn, err := l.dial(ctx, p.node, address)
	if err != nil {
		return err
	}
	return conn.Close()
}

func (l *Lab) addressOf(p *part) (string, error) {
	if p.addressFile == "" {
		return p.address, nil
	}
	text, err := os.ReadFile(p.addressFile)
	if err != nil {
		return "", fmt.Errorf("%s has not said where it listens: %w", p.name, err)
	}
	return string(text), nil
}

// dial connects from within a node, whatever is wrong between the nodes.
func (l *Lab) dial(ctx context.Context, node, address string) (net.Conn, error) {
	if l.network == nil {
		var dialer net.Dialer
		return dialer.DialContext(ctx, "tcp", address)
	}
	return l.network.dial(ctx, node, address)
}

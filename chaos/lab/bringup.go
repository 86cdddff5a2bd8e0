package lab

import (
	"context"
	"fmt"
	"slices"
	"time"
)

const pollInterval = 50 * time.Millisecond

// bringUp starts etcd, then the edges, then the instances, and waits for each
// to answer. A child that ends meanwhile fails it at once.
func (l *Lab) bringUp(ctx context.Context) error {
	if err := l.equip(); err != nil {
		return err
	}
	for _, stage := range []struct {
		kinds []string
		what  string
		done  func(context.Context) error
	}{
		{[]string{etcdPart, consulPart}, "etcd and Consul to listen", l.storesListen},
		// Instances would wait by themselves, but not in silence.
		{[]string{edgePart}, "the edges to be ready", l.ready},
		{[]string{instancePart}, "all edges to serve all versions", l.serving},
		{nil, "Consul to have a leader", l.consulLeads},
		{nil, "the edges to be in DNS", l.resolving},
	} {
		for _, p := range l.parts {
			if !slices.Contains(stage.kinds, p.kind) {
				continue
			}
			if _, err := l.start(p); err != nil {
				return err
			}
		}
		if err := l.await(ctx, stage.what, stage.done); err != nil {
			return err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.parts {
		p.expected = false
	}
	return nil
}

// storesListen reports a member of etcd, or a Consul server, that does not listen.
func (l *Lab) storesListen(ctx context.Context) error {
	for _, p := range l.parts {
		if p.kind == etcdPart || p.kind == consulPart {
			if err := l.listens(ctx, p); err != nil {
				return err
			}
		}
	}
	return nil
}

// await polls until check passes, a child ends or ctx does.
func (l *Lab) await(ctx context.Context, what string, check func(context.Context) error) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited in vain for %s: %w", what, err)
		case d := <-l.deaths:
			return fmt.Errorf("%s died while starting: %s; its last lines are above", d.part.name, d.process.describe())
		case <-ticker.C:
		}
	}
}

// endAll ends the instances first, so that they can drain and deregister, then
// the edges, then what they lean on. A cluster's members are killed: each would
// wait for the others to take over.
func (l *Lab) endAll() {
	l.mu.Lock()
	close(l.ended) // under the lock: what starts later is refused
	l.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 3*grace)
	defer cancel()
	end(ctx, l.processes(instancePart))
	end(ctx, l.processes(edgePart))
	if l.network != nil {
		cancel()
	}
	end(ctx, l.processes(etcdPart))
	end(ctx, l.processes(consulPart))
	l.watchers.Wait()
}

// processes are those of the parts of one kind, ended or not.
func (l *Lab) processes(kind string) []*process {
	l.mu.Lock()
	defer l.mu.Unlock()
	var list []*process
	for _, p := range l.parts {
		if p.kind == kind && p.process != nil {
			list = append(list, p.process)
		}
	}
	return list
}

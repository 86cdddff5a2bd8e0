package registry

import (
	"io"
	"net"
	"sync"
	"testing"

	"go.etcd.io/etcd/server/v3/embed"

	"github.com/grayfed/grayfed/registry/etcdtest"
)

func startEtcd(t testing.TB, dir string, edit func(*embed.Config)) *embed.Etcd {
	t.Helper()
	server, err := etcdtest.Run(dir, edit)
	if err != nil {
		t.Fatal(err)
	}
	return server
}

// gate is a TCP relay before an etcd that can be shut and can be turned to
// another one: what a partition or a restart looks like from an edge.
type gate struct {
	listener net.Listener
	relays   sync.WaitGroup

	mu     sync.Mutex
	target string
	open   bool
	conns  map[net.Conn]struct{}
}

func newGate(t testing.TB, target string) *gate {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{listener: l, target: target, open: true, conns: make(map[net.Conn]struct{})}
	g.relays.Go(g.accept)
	t.Cleanup(func() {
		_ = l.Close()
		g.shut()
		g.relays.Wait()
	})
	return g
}

func (g *gate) addr() string { return g.listener.Addr().String() }

func (g *gate) accept() {
	for {
		from, err := g.listener.Accept()
		if err != nil {
			return
		}
		g.mu.Lock()
		target, open := g.target, g.open
		g.mu.Unlock()
		if !open {
			_ = from.Close()
			continue
		}
		to, err := net.Dial("tcp", target)
		if err != nil {
			_ = from.Close()
			continue
		}
		if !g.keep(from, to) {
			continue
		}
		g.relays.Go(func() { g.relay(from, to) })
		g.relays.Go(func() { g.relay(to, from) })
	}
}

// keep adds the connections, or closes them if the gate was shut meanwhile.
func (g *gate) keep(conns ...net.Conn) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, c := range conns {
		if g.open {
			g.conns[c] = struct{}{}
		} else {
			_ = c.Close()
		}
	}
	return g.open
}

func (g *gate) relay(from, to net.Conn) {
	_, _ = io.Copy(to, from)
	_ = from.Close()
	_ = to.Close()
	g.mu.Lock()
	delete(g.conns, from)
	delete(g.conns, to)
	g.mu.Unlock()
}

// shut breaks what is open and refuses what comes.
func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open = false
	for c := range g.conns {
		_ = c.Close()
	}
}

// reopen lets connections through again, to target.
func (g *gate) reopen(target string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open, g.target = true, target
}

package gossip

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/grayfed/grayfed/federation"
)

// delegate is what memberlist calls, from many goroutines and with its own
// locks held: each method copies, enqueues and returns.
type delegate struct {
	gossip *Gossip
}

var (
	_ memberlist.Delegate         = (*delegate)(nil)
	_ memberlist.EventDelegate    = (*delegate)(nil)
	_ memberlist.ConflictDelegate = (*delegate)(nil)
	_ memberlist.AliveDelegate    = (*delegate)(nil)
	_ memberlist.MergeDelegate    = (*delegate)(nil)
	_ memberlist.PingDelegate     = (*delegate)(nil)
)

// change is what memberlist told of one node since Run looked last.
type change struct {
	died  bool // it was gone, maybe only in between
	alive bool // and is there now
	edge  federation.Edge
	addr  netip.AddrPort
	rtt   time.Duration
}

// mailbox holds the changes of membership that Run has not seen yet: one a
// node, so it is bounded by the nodes that NotifyAlive lets in, and nothing of
// it is ever dropped.
type mailbox struct {
	mu      sync.Mutex
	changes map[string]change // mu
}

func (m *mailbox) update(name string, apply func(*change)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.changes[name]
	apply(&c)
	m.changes[name] = c
}

func (m *mailbox) take() map[string]change {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.changes) == 0 {
		return nil
	}
	taken := m.changes
	m.changes = make(map[string]change)
	return taken
}

// NodeMeta is what membership carries of this edge.
func (d *delegate) NodeMeta(limit int) []byte {
	meta := encodeMeta(d.gossip.opts.Federation, &d.gossip.opts.Self)
	if len(meta) > limit {
		return nil // New has refused it; memberlist would panic
	}
	return meta
}

// NotifyMsg takes a message of another edge.
func (d *delegate) NotifyMsg(message []byte) {
	d.enqueue(message)
}

// MergeRemoteState takes what another edge knows.
func (d *delegate) MergeRemoteState(buf []byte, _ bool) {
	d.enqueue(buf)
}

func (d *delegate) enqueue(message []byte) {
	g := d.gossip
	g.counters.received.Add(1)
	if len(message) > maxMessage {
		g.counters.malformed.Add(1)
		return
	}
	size := int64(len(message))
	if g.inboxBytes.Add(size) > maxInbox {
		g.inboxBytes.Add(-size)
		g.counters.inboxFull.Add(1)
		return
	}
	select {
	case g.inbox <- append([]byte(nil), message...):
	default:
		g.inboxBytes.Add(-size)
		g.counters.inboxFull.Add(1)
	}
}

// GetBroadcasts returns what is to be sent next.
func (d *delegate) GetBroadcasts(overhead, limit int) [][]byte {
	return d.gossip.queue.GetBroadcasts(overhead, limit)
}

// LocalState is all this edge knows, for another to merge.
func (d *delegate) LocalState(bool) []byte { return d.gossip.localState(time.Now()) }

// NotifyJoin is called when a node is alive that was not.
func (d *delegate) NotifyJoin(node *memberlist.Node) { d.noteAlive(node) }

// NotifyUpdate is called when a node's metadata changed: it was restarted.
func (d *delegate) NotifyUpdate(node *memberlist.Node) { d.noteAlive(node) }

func (d *delegate) noteAlive(node *memberlist.Node) {
	g := d.gossip
	if node.Name == g.opts.Self.ID {
		return
	}
	edge, _, err := decodeMeta(node.Meta)
	if err != nil {
		return // NotifyAlive has refused it
	}
	addr := addrOf(node)
	g.membership.update(node.Name, func(c *change) { c.alive, c.edge, c.addr = true, edge, addr })
	signal(g.wake)
}

// NotifyLeave is called when a node died or left.
func (d *delegate) NotifyLeave(node *memberlist.Node) {
	g := d.gossip
	if node.Name == g.opts.Self.ID {
		return
	}
	g.membership.update(node.Name, func(c *change) { c.died, c.alive = true, false })
	signal(g.wake)
	signal(g.kick)
}

// NotifyConflict is called when an id is seen at a second address.
func (d *delegate) NotifyConflict(existing, other *memberlist.Node) {
	g := d.gossip
	if g.counters.conflicts.Add(1)%64 == 1 { // it repeats as long as both live
		g.log.Error("two edges have one id", "edge", existing.Name, "address", existing.Address(), "other", other.Address())
	}
	if existing.Name == g.opts.Self.ID {
		// Maybe the other is this edge's dead predecessor at another
		// address; meeting others again settles it once they know its death.
		g.contested.Store(time.Now().Add(contestedFor).UnixNano())
		signal(g.kick)
	}
}

var errFull = errors.New("too many edges")

// NotifyAlive refuses nodes that are not edges of this federation.
func (d *delegate) NotifyAlive(node *memberlist.Node) error {
	g := d.gossip
	if err := g.checkNode(node); err != nil {
		g.counters.refused.Add(1)
		return err
	}
	return nil
}

// NotifyMerge refuses to join a federation of another name.
func (d *delegate) NotifyMerge(nodes []*memberlist.Node) error {
	g := d.gossip
	for _, node := range nodes {
		if node.State != memberlist.StateAlive {
			continue
		}
		if err := g.checkNode(node); err != nil && !errors.Is(err, errFull) {
			g.counters.refused.Add(1)
			return fmt.Errorf("refuse to join: %w", err)
		}
	}
	return nil
}

func (g *Gossip) checkNode(node *memberlist.Node) error {
	edge, name, err := decodeMeta(node.Meta)
	switch {
	case err != nil:
		return fmt.Errorf("node %s: %w", federation.Quote(node.Name), err)
	case name != g.opts.Federation:
		return fmt.Errorf("edge %s is of federation %s, this is %s", federation.Quote(node.Name), federation.Quote(name), g.opts.Federation)
	case edge.ID != node.Name:
		return fmt.Errorf("node %s calls itself %s: %w", federation.Quote(node.Name), federation.Quote(edge.ID), errMalformed)
	}
	g.membership.mu.Lock()
	_, noted := g.membership.changes[node.Name]
	waiting := len(g.membership.changes)
	g.membership.mu.Unlock()
	if !noted && waiting >= maxEdges {
		return errFull
	}
	return nil
}

// AckPayload adds nothing to the answers to probes.
func (d *delegate) AckPayload() []byte { return nil }

// NotifyPingComplete takes a measured round trip.
func (d *delegate) NotifyPingComplete(node *memberlist.Node, rtt time.Duration, _ []byte) {
	d.gossip.membership.update(node.Name, func(c *change) { c.rtt = rtt })
	signal(d.gossip.wake)
}

func addrOf(node *memberlist.Node) netip.AddrPort {
	addr, _ := netip.AddrFromSlice(node.Addr) // the zero address is never dialled with success
	return netip.AddrPortFrom(addr.Unmap(), node.Port)
}

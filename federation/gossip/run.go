package gossip

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/grayfed/grayfed/federation"
)

var errStarted = errors.New("gossip was run before")

// Run opens the sockets, joins the peers and takes part until ctx ends; then it
// says goodbye, for at most the leave and the stream timeout, and returns nil. It returns an
// error when the sockets cannot be opened, or a [*ProbeTimeoutError] when the
// probe timeout is too short for the first peers reached. Peers that cannot be
// reached are no error: they are tried for ever. It can be called once.
func (g *Gossip) Run(ctx context.Context) error {
	g.mu.Lock()
	started := g.started
	g.started = true
	g.mu.Unlock()
	if started {
		return errStarted
	}
	list, err := g.open()
	if err != nil {
		return err
	}
	close(g.ready)

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := g.rejoin(ctx); err != nil {
			cancel(err)
		}
	})
	for range 4 { // one slow edge must not hold up the answers to others
		wg.Go(func() { g.deliver(ctx) })
	}
	g.work(ctx)
	g.leave(list)
	err = list.Shutdown()
	wg.Wait()
	var short *ProbeTimeoutError
	if errors.As(context.Cause(ctx), &short) {
		return short
	}
	if err != nil {
		return fmt.Errorf("stop gossip: %w", err)
	}
	return nil
}

// open creates the memberlist, which listens from then on.
func (g *Gossip) open() (*memberlist.Memberlist, error) {
	t := g.opts.Timing
	logger := log.New(&logWriter{log: g.opts.Log, counters: &g.counters}, "", 0)
	bind := parsed(g.opts.Bind)
	inner, err := listen(bind, g.opts.MaxStreams, logger, &g.counters)
	if err != nil {
		return nil, err
	}
	var wire memberlist.NodeAwareTransport = inner
	if g.opts.wrap != nil {
		wire = g.opts.wrap(wire)
	}
	g.wire = wire
	advertise := parsed(g.opts.Advertise)
	if advertise.Port() == 0 {
		advertise = netip.AddrPortFrom(advertise.Addr(), uint16(inner.GetAutoBindPort()))
	}
	g.mu.Lock()
	g.self.Gossip = advertise.String()
	g.mu.Unlock()

	c := memberlist.DefaultLANConfig()
	c.Name = g.opts.Self.ID
	c.Transport = wire
	c.BindAddr, c.BindPort = bind.Addr().String(), int(bind.Port())
	c.AdvertiseAddr, c.AdvertisePort = advertise.Addr().String(), int(advertise.Port())
	c.TCPTimeout = t.StreamTimeout
	c.SuspicionMult, c.SuspicionMaxTimeoutMult = t.SuspicionMult, t.SuspicionMaxMult
	c.PushPullInterval = t.PushPullInterval
	c.ProbeInterval, c.ProbeTimeout = t.ProbeInterval, t.ProbeTimeout
	c.GossipInterval = t.GossipInterval
	// A node that thinks itself slow may stretch its probes. Twice is the
	// most that leaves a death known within 1.5 s.
	c.AwarenessMaxMultiplier = 2
	// How long the dead are still gossiped to; after that only rejoin finds
	// them.
	c.GossipToTheDeadTime = t.PushPullInterval
	// A dead edge's id may come back from another address at once: the
	// replacement of a lost machine must not wait.
	c.DeadNodeReclaimTime = time.Millisecond
	c.ProtocolVersion = memberlist.ProtocolVersionMax
	c.DelegateProtocolMin, c.DelegateProtocolMax, c.DelegateProtocolVersion = schema, schema, schema
	c.Logger = logger
	c.LogOutput = nil
	if len(g.opts.Keys) > 0 {
		if c.Keyring, err = memberlist.NewKeyring(g.opts.Keys, g.opts.Keys[0]); err != nil {
			return nil, errors.Join(fmt.Errorf("gossip keys: %w", err), wire.Shutdown())
		}
	}
	d := &delegate{gossip: g}
	c.Delegate, c.Events, c.Conflict, c.Alive, c.Merge, c.Ping = d, d, d, d, d, d
	list, err := memberlist.Create(c)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start gossip on %s: %w", g.opts.Bind, err), wire.Shutdown())
	}
	g.list.Store(list)
	return list, nil
}

// work is the one goroutine that changes what is known of others.
func (g *Gossip) work(ctx context.Context) {
	tick := time.NewTicker(g.opts.Timing.GossipInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-g.wake:
			g.takeMembership(time.Now())
		case message := <-g.inbox:
			g.inboxBytes.Add(-int64(len(message)))
			// Who is alive decides whose word counts, so it goes first.
			g.takeMembership(time.Now())
			g.takeMessage(message, time.Now())
		case <-tick.C:
			g.keepUp(time.Now())
		}
		g.callOut()
	}
}

// keepUp does what is due: announcements, expiry, questions about gaps.
func (g *Gossip) keepUp(now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	refresh := g.opts.Timing.RefreshInterval
	if due := now.Sub(g.beatAt) >= refresh; due || g.dirty && now.Sub(g.beatAt) >= g.spacing() {
		g.broadcast("b/"+g.self.ID, g.beat(false).append(newMessage(kindBeat, g.name)))
		g.beatAt, g.dirty = now, false
		if due {
			g.repeatLoads()
			g.forget(now)
		}
	}
	g.announceLoads()
	signs := now.Sub(g.signsAt) >= SignInterval
	if signs {
		g.signsAt = now
	}
	for _, p := range g.peers {
		g.watchPeer(p, now)
		if signs && p.edge.Status == federation.EdgeDead {
			g.effects.signs = append(g.effects.signs, p.node())
		}
	}
}

// SignInterval is how often an edge tells each one that it holds for dead that
// it is alive itself, without an answer: where packets pass one way only,
// memberlist, which waits for answers, has both dead.
const SignInterval = 500 * time.Millisecond

// spacing is the least time between two beats. Each beat is passed on by every
// edge, so it grows with their number.
func (g *Gossip) spacing() time.Duration {
	return g.opts.Timing.GossipInterval * time.Duration(1+len(g.peers)/8)
}

// beat is held under mu.
func (g *Gossip) beat(leaving bool) *beat {
	g.beatSeq++
	return &beat{
		origin:   g.own.origin,
		seq:      g.beatSeq,
		revision: g.state.Revision,
		clock:    g.state.Clock,
		digest:   g.state.Digest,
		config:   g.state.Config,
		lag:      g.state.Lag,
		version:  g.own.version,
		count:    g.own.count,
		hash:     g.own.hash,
		leaving:  leaving,
		share:    uint64(g.state.Share),
	}
}

// forget drops withdrawals that nobody can miss any more and edges that are
// long dead. Held under mu.
func (g *Gossip) forget(now time.Time) {
	deadline := now.Add(-g.opts.Timing.RecordTTL())
	for key, held := range g.own.held {
		if held.withdrawn() && held.received.Before(deadline) {
			delete(g.own.held, key)
		}
	}
	for id, p := range g.peers {
		if !p.alive() && now.Sub(p.gone) > forgetDeadAfter {
			delete(g.peers, id)
		}
	}
}

// broadcast queues a message for the others, in place of an older one of the
// same name. When the queue is full, what was sent most often goes first; the
// beats tell the others what they missed. The queue has its own lock; mu is
// held so that two versions of one thing are queued in their order.
func (g *Gossip) broadcast(name string, message []byte) {
	if len(message) > maxPacket {
		g.counters.queueFull.Add(1) // would wait for ever; it goes over TCP
		return
	}
	g.queue.QueueBroadcast(&broadcast{name: name, message: message})
	if n := g.queue.NumQueued(); n > g.opts.QueueLimit {
		g.queue.Prune(g.opts.QueueLimit)
		g.counters.queueFull.Add(uint64(n - g.opts.QueueLimit))
	}
}

// leave tells the others that this edge goes on purpose: each directly, since
// memberlist does not show who left and who died, and then by its own way.
func (g *Gossip) leave(list *memberlist.Memberlist) {
	deadline := time.NewTimer(g.opts.Timing.LeaveTimeout)
	defer deadline.Stop()
	started := time.Now()
	g.mu.Lock()
	message := g.beat(true).append(newMessage(kindBeat, g.name))
	var nodes []*memberlist.Node
	for _, p := range g.peers {
		if p.alive() && len(nodes) < 32 {
			nodes = append(nodes, p.node())
		}
	}
	g.mu.Unlock()
	done := make(chan struct{})
	var wg sync.WaitGroup
	for _, node := range nodes {
		wg.Go(func() {
			if err := list.SendReliable(node, message); err != nil {
				g.log.Debug("goodbye not delivered", "edge", node.Name, "error", err)
			}
		})
	}
	go func() { wg.Wait(); close(done) }()
	select {
	case <-done:
	case <-deadline.C:
	}
	rest := max(g.opts.Timing.LeaveTimeout-time.Since(started), 10*time.Millisecond)
	if err := list.Leave(rest); err != nil {
		g.log.Debug("leave not broadcast", "error", err)
	}
	<-done // bounded by the stream timeout
}

// broadcast is one message in the outgoing queue.
type broadcast struct {
	name    string
	message []byte
}

var _ memberlist.NamedBroadcast = (*broadcast)(nil)

// Name identifies what the message is about.
func (b *broadcast) Name() string { return b.name }

// Message is what is sent.
func (b *broadcast) Message() []byte { return b.message }

// Finished is called when it was sent often enough or replaced.
func (b *broadcast) Finished() {}

// Invalidates reports whether this message replaces the other.
func (b *broadcast) Invalidates(other memberlist.Broadcast) bool {
	o, ok := other.(memberlist.NamedBroadcast)
	return ok && o.Name() == b.name
}

func subjectName(what, edge string, key federation.Key) string {
	return what + "/" + edge + "/" + key.Service + "/" + key.ID
}

func sequenceName(what, edge string, seq uint64) string {
	return what + "/" + edge + "/" + strconv.FormatUint(seq, 10)
}

// Package gossip carries between edges what may be lost and is soon repeated:
// who is alive, what each edge says of its own state, which endpoints are not
// well, and how much is in flight to endpoints with a limit.
//
// Membership is SWIM, by memberlist. On top of it every edge broadcasts its
// changes at once and, each refresh interval, a beat: its state and a summary
// of the deviations that it stands by. A receiver whose set matches the summary
// takes all of them for repeated; one whose set does not asks for the whole.
// So a lost message of any kind costs one refresh interval at most, however
// many deviations there are, and every queue may drop.
package gossip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/grayfed/grayfed/federation"
)

// ErrNotAlive is wrapped by [Gossip.ForwardHeartbeat] when the edge is not
// there to take it.
var ErrNotAlive = errors.New("edge is not alive")

// State is what this edge tells the others of itself.
type State struct {
	Revision int64         // etcd revision applied
	Clock    uint64        // Lamport time
	Digest   string        // over its etcd-confirmed facts, at most 128 bytes
	Config   string        // hash of its documents, at most 128 bytes
	Lag      time.Duration // how long its registry view is behind
	Share    int           // weight of this edge's entry in DNS, at most federation.MaxWeight; 0: it is out
}

// Gossip is this edge's part in the conversation. Its methods are safe for
// concurrent use, before, during and after Run; what is published before Run is
// told as soon as others are met.
type Gossip struct {
	opts     Options
	name     uint32 // hash of the federation's name
	log      *slog.Logger
	counters counters

	aliveOthers atomic.Int64
	contested   atomic.Int64 // until then (Unix ns), another edge may have this edge's id

	queue memberlist.TransmitLimitedQueue // has its own lock
	list  atomic.Pointer[memberlist.Memberlist]
	wire  memberlist.Transport // set before ready is closed
	ready chan struct{}        // closed once the sockets are open
	wake  chan struct{}        // 1-buffered: something for Run to look at
	kick  chan struct{}        // 1-buffered: rejoin now
	inbox chan []byte

	inboxBytes atomic.Int64
	mail       chan letter

	membership mailbox

	mu      sync.Mutex
	self    federation.Edge         // mu; Gossip filled in once listening
	state   State                   // mu
	own     deviations              // mu
	loads   map[federation.Key]load // mu; announced, 0 once
	pending []load                  // mu; to be announced
	loadSeq uint64                  // mu
	beatSeq uint64                  // mu
	dirty   bool                    // mu; a beat is due
	beatAt  time.Time               // mu; last beat
	signsAt time.Time               // mu; last signs of life
	peers   map[string]*peer        // mu; by edge id
	known   []string                // mu; addresses from the registry
	started bool                    // mu
	effects effects                 // mu; what the handlers found, called out unlocked
}

// New checks the options and returns a gossip that does nothing yet.
func New(opts Options) (*Gossip, error) {
	opts = opts.withDefaults()
	if err := opts.validate(); err != nil {
		return nil, err
	}
	g := &Gossip{
		opts:       opts,
		name:       nameHash(opts.Federation),
		log:        opts.Log,
		ready:      make(chan struct{}),
		wake:       make(chan struct{}, 1),
		kick:       make(chan struct{}, 1),
		inbox:      make(chan []byte, inboxSize),
		mail:       make(chan letter, maxEdges),
		membership: mailbox{changes: make(map[string]change)},
		self:       opts.Self,
		loads:      make(map[federation.Key]load),
		peers:      make(map[string]*peer),
	}
	g.self.Status = federation.EdgeAlive
	g.self.Gossip = opts.Advertise
	g.own.reset(origin{edge: opts.Self.ID, incarnation: opts.Self.Incarnation})
	g.queue.RetransmitMult = 4
	g.queue.NumNodes = g.members
	if err := newMetrics(opts.Registerer, g); err != nil {
		return nil, fmt.Errorf("register gossip metrics: %w", err)
	}
	return g, nil
}

// Ready is closed once the sockets are open.
func (g *Gossip) Ready() <-chan struct{} { return g.ready }

// Address is the "address:port" that others reach this edge at; with port 0 it
// is known once Ready is closed.
func (g *Gossip) Address() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.self.Gossip
}

// PublishHealth tells the others this edge's own evidence. Only deviations
// (Unhealthy, Recovering) are sent and repeated; any other status withdraws
// one that was sent. Records of one subject come in the order of their Seq; a
// record that is not newer than the one published is ignored.
func (g *Gossip) PublishHealth(records ...federation.HealthRecord) {
	now := time.Now()
	g.mu.Lock()
	for i := range records {
		g.publish(&records[i], now)
	}
	g.mu.Unlock()
}

// publish is held under mu.
func (g *Gossip) publish(h *federation.HealthRecord, now time.Time) {
	r := record{key: h.Subject, seq: h.Seq, status: h.Status, percent: min(h.Percent, 100), reason: printable(h.Reason)}
	switch h.Status {
	case federation.Unhealthy, federation.Recovering:
	default:
		r.status, r.percent, r.reason = federation.HealthUnknown, 0, ""
	}
	held, known := g.own.held[r.key]
	switch {
	case known && r.seq <= held.seq:
		return
	case r.withdrawn() && (!known || held.withdrawn()):
		return // the others have nothing to forget
	case checkKey(r.key) != nil:
		return // a source of this edge alone: the others do not know it
	}
	r.version = g.own.version + 1
	r.encode()
	if _, full := g.own.put(r, now); full {
		g.counters.recordsFull.Add(1) // comes again with its next change
		return
	}
	d := delta{origin: g.own.origin, record: r}
	g.broadcast(subjectName("h", d.edge, r.key), d.append(newMessage(kindDelta, g.name)))
	g.dirty = true
}

func printable(text string) string {
	if len(text) > maxReason {
		text = text[:maxReason]
	}
	return strings.Map(func(c rune) rune {
		if c < ' ' || c > '~' {
			return -1
		}
		return c
	}, text)
}

// SetState says what this edge's next beat tells of it; a changed one goes out
// with the next gossip interval.
func (g *Gossip) SetState(s State) {
	s.Digest, s.Config = clip(s.Digest), clip(s.Config)
	s.Share = min(max(s.Share, 0), federation.MaxWeight)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.state == s {
		return
	}
	// Lag alone drifts all the time; it goes with the next regular beat.
	was := g.state
	was.Lag = s.Lag
	g.dirty = g.dirty || was != s
	g.state = s
	g.self.Revision, g.self.Clock, g.self.Digest, g.self.Config = s.Revision, s.Clock, s.Digest, s.Config
	g.self.Lag, g.self.Share = federation.Duration(s.Lag), s.Share
}

func clip(text string) string {
	text = strings.Map(func(c rune) rune {
		if c < ' ' || c > '~' {
			return -1
		}
		return c
	}, text)
	return text[:min(len(text), maxDigest)]
}

// PublishLoad tells the others how many requests this edge has in flight to an
// endpoint. It is meant for endpoints outside this edge's zone that declare a
// capacity, and for nothing else: it is what spillover decides on. Calls are
// coalesced; only changes go out.
func (g *Gossip) PublishLoad(key federation.Key, inFlight int64) {
	if checkKey(key) != nil {
		return
	}
	n := uint64(min(max(inFlight, 0), federation.MaxCapacity))
	g.mu.Lock()
	defer g.mu.Unlock()
	held, known := g.loads[key]
	switch {
	case known && held.inFlight == n, !known && n == 0:
		return
	case !known && len(g.loads) >= maxLoads:
		g.counters.loadsFull.Add(1)
		return
	}
	g.loads[key] = load{key: key, inFlight: n}
	i := slices.IndexFunc(g.pending, func(l load) bool { return l.key == key })
	if i < 0 {
		g.pending = append(g.pending, load{})
		i = len(g.pending) - 1
	}
	g.pending[i] = g.loads[key]
}

// SetKnown gives the gossip addresses of edges in the registry: those that are
// not alive are tried for ever. Their order does not matter; ill-formed ones are
// left out.
func (g *Gossip) SetKnown(addresses []string) {
	known := make([]string, 0, len(addresses))
	for _, a := range addresses {
		if validatePeer(a) == nil && len(known) < maxEdges {
			known = append(known, a)
		}
	}
	slices.Sort(known)
	g.mu.Lock()
	same := slices.Equal(g.known, known)
	g.known = known
	g.mu.Unlock()
	if !same {
		signal(g.kick)
	}
}

// ForwardHeartbeat passes a heartbeat on to the edge that owns the instance.
// It blocks for at most the stream timeout; ctx is looked at before. An error
// wraps [ErrNotAlive] when gossip does not see the edge alive.
func (g *Gossip) ForwardHeartbeat(ctx context.Context, edgeID string, key federation.Key) error {
	return g.sendKey(ctx, kindHeartbeat, edgeID, key)
}

// RelayHeartbeat gives a heartbeat to an edge that is to do with it what it does
// with one of its own: keep it, forward it or adopt the instance. Else it is
// like [Gossip.ForwardHeartbeat].
func (g *Gossip) RelayHeartbeat(ctx context.Context, edgeID string, key federation.Key) error {
	return g.sendKey(ctx, kindRelay, edgeID, key)
}

func (g *Gossip) sendKey(ctx context.Context, k kind, edgeID string, key federation.Key) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := checkKey(key); err != nil {
		return fmt.Errorf("forward heartbeat of %s: %w", key, err)
	}
	return g.send(edgeID, appendKey(newMessage(k, g.name), key))
}

// send sends a message to one edge over TCP. It blocks, so mu is not held.
func (g *Gossip) send(edgeID string, message []byte) error {
	g.mu.Lock()
	p := g.peers[edgeID]
	var node *memberlist.Node
	if p != nil && p.alive() {
		node = p.node()
	}
	g.mu.Unlock()
	list := g.list.Load()
	if node == nil || list == nil {
		return fmt.Errorf("send to edge %s: %w", edgeID, ErrNotAlive)
	}
	if err := list.SendReliable(node, message); err != nil {
		return fmt.Errorf("send to edge %s at %s: %w", edgeID, node.Address(), err)
	}
	return nil
}

// letter is a message to one edge that the work loop does not wait for.
type letter struct {
	edge    string
	message []byte
}

// sendLater hands a message to the goroutine that may wait for TCP. When too
// many wait it is dropped: who asked asks again.
func (g *Gossip) sendLater(edge string, message []byte) {
	select {
	case g.mail <- letter{edge: edge, message: message}:
	default:
		g.counters.queueFull.Add(1)
	}
}

// deliver sends letters until ctx ends.
func (g *Gossip) deliver(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case l := <-g.mail:
			if err := g.send(l.edge, l.message); err != nil {
				g.log.Debug("message not delivered", "edge", l.edge, "error", err)
			}
		}
	}
}

// Edges returns this edge and all others ever met and not yet forgotten,
// sorted by id.
func (g *Gossip) Edges() []federation.Edge {
	g.mu.Lock()
	defer g.mu.Unlock()
	edges := make([]federation.Edge, 0, len(g.peers)+1)
	edges = append(edges, g.self)
	for _, p := range g.peers {
		edges = append(edges, p.edge)
	}
	slices.SortFunc(edges, func(a, b federation.Edge) int { return strings.Compare(a.ID, b.ID) })
	return edges
}

// Alive reports whether gossip sees the edge alive; this edge is.
func (g *Gossip) Alive(id string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if id == g.self.ID {
		return true
	}
	p := g.peers[id]
	return p != nil && p.alive()
}

// Heard is when the edge was heard last, also while membership holds it for
// dead: then it says so itself every [SignInterval], as long as its packets get
// here. Zero: never.
func (g *Gossip) Heard(id string) time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	if p := g.peers[id]; p != nil {
		return p.heard.at
	}
	return time.Time{}
}

// members counts the edges alive, this one included. The queue asks it with its
// lock held, so it takes none.
func (g *Gossip) members() int { return 1 + int(g.aliveOthers.Load()) }

// Stats returns what gossip has met since it started.
func (g *Gossip) Stats() Stats {
	s := g.counters.stats()
	s.Queued = g.queue.NumQueued()
	s.Members = g.members()
	return s
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // it is pending already
	}
}

// parsed returns options that validate has parsed before.
func parsed(address string) netip.AddrPort {
	ap, _ := netip.ParseAddrPort(address) // checked by validate
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

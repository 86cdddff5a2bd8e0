package gossip

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/grayfed/grayfed/federation"
)

// Bounds of what is kept on behalf of others. They are far above what a
// federation of edges reaches, and keep a broken peer from filling the memory.
const (
	maxEdges         = 1024     // edges known at once
	maxRecords       = 20_000   // deviations of one observer
	maxLoads         = 1024     // endpoints whose load one edge announces
	maxMessage       = 8 << 20  // bytes of one message: the longest set of deviations fits
	maxInbox         = 64 << 20 // bytes of messages not yet worked on
	maxPacket        = 1280     // bytes of a broadcast: memberlist's packet of 1400 less its own
	maxReason        = 64       // bytes of a record's reason
	maxDigest        = 128      // bytes of a digest or a configuration hash
	inboxSize        = 4096     // messages received and not yet worked on
	defaultMaxJump   = 1 << 32  // ticks: a century at one registration a second
	missedRefreshes  = 3        // then what an edge said counts no more
	probeRoundTrips  = 3        // a probe timeout is at least that many
	forgetDeadAfter  = 24 * time.Hour
	defaultName      = "grayfed"
	defaultQueue     = 4096
	defaultStreams   = 128
	measureAttempts  = 5
	driftSamples     = 8
	syncRequestEvery = time.Second
)

// Timing is how fast the federation notices. The zero value of a field means
// its default. With the defaults a killed edge is known to all within 1.5 s:
// at most one probe interval for a round that meets it, then a suspicion of
// SuspicionMult probe intervals, stretched up to SuspicionMaxMult times while
// nobody confirms it. (memberlist: suspicion.go, state.go.)
type Timing struct {
	// ProbeInterval is how often this edge probes one other. 200 ms.
	ProbeInterval time.Duration
	// ProbeTimeout is how long a probe waits before others are asked to
	// probe too. At least three round trips, less than ProbeInterval. 100 ms.
	ProbeTimeout time.Duration
	// SuspicionMult and SuspicionMaxMult scale the time a suspect has to
	// answer. 3 and 2.
	SuspicionMult, SuspicionMaxMult int
	// GossipInterval is how often queued messages go out. 50 ms.
	GossipInterval time.Duration
	// PushPullInterval is how often the whole state is exchanged with one
	// edge, over TCP. 10 s.
	PushPullInterval time.Duration
	// StreamTimeout bounds one exchange over TCP. 2 s.
	StreamTimeout time.Duration
	// RefreshInterval is how often an edge repeats what it is and which
	// deviations it stands by; after three missed ones they count no more.
	// 2 s.
	RefreshInterval time.Duration
	// RejoinMin and RejoinMax bound the jittered pause between two attempts
	// to reach the known edges that are not alive. 1 s and 5 s.
	RejoinMin, RejoinMax time.Duration
	// LeaveTimeout bounds the goodbye. 1 s.
	LeaveTimeout time.Duration
}

// RecordTTL is how long a health record counts after it was received: three
// missed refreshes. The catalog is given the same.
func (t Timing) RecordTTL() time.Duration {
	return missedRefreshes*t.withDefaults().RefreshInterval + t.withDefaults().RefreshInterval/2
}

// MeetWithin is how long it takes at most to meet an edge that lives and whose
// address is known: the longest pause between two attempts, and the two
// exchanges of one. It holds while names of peers resolve at once and no more
// edges are away than are tried side by side.
func (t Timing) MeetWithin() time.Duration {
	t = t.withDefaults()
	return t.RejoinMax + 2*t.StreamTimeout
}

func (t Timing) withDefaults() Timing {
	def := func(v *time.Duration, d time.Duration) { *v = cmp.Or(*v, d) }
	def(&t.ProbeInterval, 200*time.Millisecond)
	def(&t.ProbeTimeout, 100*time.Millisecond)
	def(&t.GossipInterval, 50*time.Millisecond)
	def(&t.PushPullInterval, 10*time.Second)
	def(&t.StreamTimeout, 2*time.Second)
	def(&t.RefreshInterval, 2*time.Second)
	def(&t.RejoinMin, time.Second)
	def(&t.RejoinMax, 5*time.Second)
	def(&t.LeaveTimeout, time.Second)
	t.SuspicionMult = cmp.Or(t.SuspicionMult, 3)
	t.SuspicionMaxMult = cmp.Or(t.SuspicionMaxMult, 2)
	return t
}

func (t Timing) validate() error {
	var errs []error
	between := func(name string, v, low, high time.Duration) {
		if v < low || v > high {
			errs = append(errs, fmt.Errorf("gossip timing: %s is %s, allowed %s to %s", name, v, low, high))
		}
	}
	between("probe interval", t.ProbeInterval, 20*time.Millisecond, time.Minute)
	between("probe timeout", t.ProbeTimeout, time.Millisecond, t.ProbeInterval-time.Millisecond)
	between("gossip interval", t.GossipInterval, 5*time.Millisecond, 10*time.Second)
	between("push/pull interval", t.PushPullInterval, 100*time.Millisecond, time.Hour)
	between("stream timeout", t.StreamTimeout, 10*time.Millisecond, time.Minute)
	between("refresh interval", t.RefreshInterval, t.GossipInterval, time.Hour)
	between("rejoin minimum", t.RejoinMin, time.Millisecond, time.Hour)
	between("rejoin maximum", t.RejoinMax, t.RejoinMin, time.Hour)
	between("leave timeout", t.LeaveTimeout, time.Millisecond, time.Minute)
	if t.SuspicionMult < 1 || t.SuspicionMult > 100 {
		errs = append(errs, fmt.Errorf("gossip timing: suspicion multiplier is %d, allowed 1 to 100", t.SuspicionMult))
	}
	if t.SuspicionMaxMult < 1 || t.SuspicionMaxMult > 100 {
		errs = append(errs, fmt.Errorf("gossip timing: suspicion maximum multiplier is %d, allowed 1 to 100", t.SuspicionMaxMult))
	}
	return errors.Join(errs...)
}

// Clock takes in the Lamport times that others announce. [federation.Clock]
// is one.
type Clock interface {
	WitnessBounded(lamport, maxJump uint64) error
}

// Options configure a [Gossip]. The callbacks are called one at a time, from
// the goroutine of Run, and hold up gossip while they run.
type Options struct {
	// Federation is the name of the federation: edges of another are
	// refused. "grayfed".
	Federation string
	// Self is this edge: id, locality, incarnation and addresses. The
	// incarnation must grow with each start.
	Self federation.Edge
	// Bind is the "address:port" to listen on, over UDP and TCP; port 0
	// lets the system choose. Advertise is what others are told to use;
	// empty: Bind. Hosts are IP addresses.
	Bind, Advertise string
	// Keys encrypt gossip: 16, 24 or 32 bytes each. The first encrypts, all
	// decrypt. Without one, only loopback addresses are accepted.
	Keys [][]byte
	// Peers are "host:port" of edges to join; a name stands for every
	// address it resolves to. This edge's own is skipped.
	Peers  []string
	Timing Timing
	// MaxJump is how far ahead of its own clock this edge believes another's
	// to be, in ticks; what is beyond is counted and dropped. 2^32.
	MaxJump uint64
	// Clock is told the times that others announce; may be nil.
	Clock Clock
	// QueueLimit is how many messages may wait to go out. 4096.
	QueueLimit int
	// MaxStreams is how many TCP connections from others are served at
	// once. 128.
	MaxStreams int
	Log        *slog.Logger
	// Registerer takes the metrics; nil: none are published.
	Registerer prometheus.Registerer
	// Rand gives numbers in [0, 1) for jitter; nil: math/rand/v2.
	Rand func() float64

	// OnHealth gets records of other observers: new, changed, withdrawn
	// (Status HealthUnknown) and, once every refresh interval, repeated.
	OnHealth func([]federation.HealthRecord)
	// OnEdge gets what is known of another edge whenever it changes. A
	// status of dead or left says that all its records are void.
	OnEdge func(federation.Edge)
	// OnHeartbeat gets heartbeats that another edge forwarded.
	OnHeartbeat func(federation.Key)
	// OnRelay gets heartbeats of an edge that etcd does not answer.
	OnRelay func(federation.Key)
	// OnLoad gets how many requests another edge has in flight to an
	// endpoint; 0 when it has none or is gone.
	OnLoad func(edge string, endpoint federation.Key, inFlight int64)

	// wrap lets tests cut the network.
	wrap func(memberlist.NodeAwareTransport) memberlist.NodeAwareTransport
}

func (o Options) withDefaults() Options {
	o.Federation = cmp.Or(o.Federation, defaultName)
	o.Advertise = cmp.Or(o.Advertise, o.Bind)
	o.MaxJump = cmp.Or(o.MaxJump, defaultMaxJump)
	o.QueueLimit = cmp.Or(o.QueueLimit, defaultQueue)
	o.MaxStreams = cmp.Or(o.MaxStreams, defaultStreams)
	o.Timing = o.Timing.withDefaults()
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Rand == nil {
		o.Rand = rand.Float64
	}
	if o.OnHealth == nil {
		o.OnHealth = func([]federation.HealthRecord) {}
	}
	if o.OnEdge == nil {
		o.OnEdge = func(federation.Edge) {}
	}
	if o.OnHeartbeat == nil {
		o.OnHeartbeat = func(federation.Key) {}
	}
	if o.OnRelay == nil {
		o.OnRelay = func(federation.Key) {}
	}
	if o.OnLoad == nil {
		o.OnLoad = func(string, federation.Key, int64) {}
	}
	return o
}

// validate checks options that have their defaults.
func (o Options) validate() error {
	errs := []error{o.Timing.validate()}
	refuse := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !federation.ValidName(o.Federation) {
		refuse("gossip federation: %q is not a name", o.Federation)
	}
	if !federation.ValidName(o.Self.ID) {
		refuse("gossip: edge id %s is not a name", federation.Quote(o.Self.ID))
	}
	if o.Self.Incarnation == 0 {
		refuse("gossip: incarnation is 0, allowed from 1")
	}
	if meta := encodeMeta(o.Federation, &o.Self); len(meta) > memberlist.MetaMaxSize {
		refuse("gossip: names and addresses of edge %s take %d bytes, allowed %d", o.Self.ID, len(meta), memberlist.MetaMaxSize)
	}
	open := false
	for _, a := range []struct{ name, text string }{{"bind", o.Bind}, {"advertise", o.Advertise}} {
		ap, err := netip.ParseAddrPort(a.text)
		if err != nil {
			refuse("gossip %s: %q is not an IP address and port: %w", a.name, a.text, err)
			continue
		}
		open = open || !ap.Addr().Unmap().IsLoopback()
		if a.name == "advertise" && ap.Addr().IsUnspecified() {
			refuse("gossip advertise: %s tells others nothing; set an address that they can reach", a.text)
		}
	}
	if open && len(o.Keys) == 0 {
		refuse("gossip: %w: bind %s, advertise %s", ErrKeyRequired, o.Bind, o.Advertise)
	}
	for i, key := range o.Keys {
		if err := memberlist.ValidateKey(key); err != nil {
			refuse("gossip key %d: found %d bytes, allowed 16, 24 or 32", i+1, len(key))
		}
	}
	for _, peer := range o.Peers {
		if err := validatePeer(peer); err != nil {
			errs = append(errs, err)
		}
	}
	if o.QueueLimit < 16 {
		refuse("gossip: queue limit is %d, allowed from 16", o.QueueLimit)
	}
	if o.MaxStreams < 1 {
		refuse("gossip: stream limit is %d, allowed from 1", o.MaxStreams)
	}
	return errors.Join(errs...)
}

func validatePeer(peer string) error {
	host, port, err := net.SplitHostPort(peer)
	if err != nil {
		return fmt.Errorf("gossip peer %q: %w", peer, err)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || host == "" {
		return fmt.Errorf("gossip peer %q: allowed host:port", peer)
	}
	return nil
}

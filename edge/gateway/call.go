package gateway

import (
	"net/netip"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/grayfed/grayfed/edge/exchange"
	"github.com/grayfed/grayfed/edge/route"
	"github.com/grayfed/grayfed/federation"
)

// call is a request on its way through the pipeline. It belongs to an exchange
// and is used again with it, memory included.
type call struct {
	// awaits is the endpoint whose answer is awaited, while the request can be
	// moved away from it; see waiting.
	awaits atomic.Pointer[endpoint]
	// lasts is where its tunnel or stream is, which ends when that has drained.
	lasts atomic.Pointer[endpoint]

	g      *Gateway
	x      *exchange.Exchange
	header func(name string) (string, bool) // of the request; made once

	identity
	timing
	rewriting
	input route.Input
	path  []byte // scratch of route.NormalisePath

	series *seriesSet
	route  *compiledRoute // nil: none
	tag    string
	counts bool // the tag does

	plan      *servicePlan // nil until the release decision
	decision  route.Decision
	at        candidate // the last that was picked
	hash      uint64
	hashed    bool      // hash counts
	sending   bool      // a transport has the exchange
	holds     *endpoint // in whose count of requests in flight this one is
	reported  bool      // the endpoint's tracker knows
	tried     []*federation.Endpoint
	shut      []shutGroup
	left      *peer  // the edge that broke off
	avoid     string // the zone of the first failure
	retries   int
	counted   int // of them, those that count
	unwritten int // attempts that wrote nothing
	reloads   int
	stays     bool           // goes to a lost zone, for want of another
	inside    *serviceMemory // within whose limit this request is
	queued    bool           // it waited for a place
	upload    upload
	from      string          // the edge that sent it here; empty: a client did
	failure   *exchange.Error // the last one
	headTook  time.Duration   // of the last attempt; only with an access log

	remaining    []byte // value of X-RateLimit-Remaining; empty: none
	retryAfter   time.Duration
	allow        string
	problem      []byte
	body         exchange.BytesBody
	refused      *refusal
	remainingBuf [20]byte
}

// candidate is an endpoint and where on the ladder it was found.
type candidate struct {
	endpoint *federation.Endpoint
	group    *route.Group
	rung     route.Rung
	pass     pass
}

func (g *Gateway) newCall(x *exchange.Exchange) *call {
	c := &call{g: g, x: x}
	c.header = func(name string) (string, bool) { return c.x.Request.Header.GetName(name) }
	x.State = c
	g.waiting.add(c)
	return c
}

// end forgets the request and what it held on to.
func (c *call) end() {
	clear(c.tried)
	c.tried = c.tried[:0]
	clear(c.shut)
	c.shut, c.left, c.from = c.shut[:0], nil, ""
	c.input = route.Input{}
	c.tag, c.counts = "", false
	c.series, c.route, c.plan = nil, nil, nil
	c.decision, c.at = route.Decision{}, candidate{}
	c.holds, c.reported, c.avoid = nil, false, ""
	c.retries, c.counted, c.unwritten, c.reloads, c.stays = 0, 0, 0, 0, false
	c.upload.body = nil
	c.hashed, c.queued, c.grpc, c.timing = false, false, false, timing{}
	c.failure, c.refused, c.headTook = nil, nil, 0
	c.remaining, c.retryAfter, c.allow = nil, 0, ""
	c.body.Set(nil)
	c.endRewriting()
}

// subset is the label of the lane that the request took.
func (c *call) subset() string {
	switch c.at.rung {
	case route.RungBaselineHere, route.RungBaselineElsewhere:
		return route.Baseline
	default:
		if c.plan == nil {
			return subsetNone
		}
		return c.decision.Lane.Subset
	}
}

// reason is why it took its lane and rung, or did not come that far.
func (c *call) reason() string {
	switch {
	case c.plan != nil:
		return c.decision.ReasonAt(c.at.rung).String()
	case c.refused != nil:
		return c.refused.reason
	}
	return ""
}

// status is what the client was told, 499 when it left before (nginx's number).
func (c *call) status() int {
	if c.refused != nil {
		return c.refused.status
	}
	return c.x.Response.Status
}

// report tells the endpoint's tracker how the answer ended that was passed on.
func (c *call) report(failure *exchange.Error, now time.Time) {
	if c.reported {
		return
	}
	switch {
	case failure != nil && failure.Fault == exchange.FaultUpstream && c.overdue(now):
		// The client gave too little time.
	case failure != nil && failure.Fault == exchange.FaultUpstream:
		c.judge(false, now)
		c.holds.tracker.GatewayFailure(now.UnixNano())
		c.g.zoneFailed(c.holds.zone.Load(), now)
	case !c.failed():
		if failure == nil {
			c.judge(true, now)
		}
		c.holds.tracker.Success(now.UnixNano())
	}
}

// identity is whom a request comes from.
type identity struct {
	peer     netip.Addr // of what follows
	trusted  bool
	peerText string
	client   string // whom the request is attributed to
	id       string
	explain  bool
	grpc     bool   // by its Content-Type
	tags     int    // fields that carry a tag
	tagField string // the first

	peerBuf   [len("ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255")]byte
	idBuf     [32]byte
	forwarded []byte // value of X-Forwarded-For
	chain     int    // of it, what was there before
	element   []byte // value of Forwarded
}

// view is a string over b, good as long as b is not written.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

package config

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/grayfed/grayfed/edge/admission"
	"github.com/grayfed/grayfed/edge/balance"
	"github.com/grayfed/grayfed/edge/breaker"
	"github.com/grayfed/grayfed/federation"
)

// Timeouts bound the requests of a route. A route that does not say takes what
// its Service document says, and the default where that says nothing. Zero
// stands for no bound of its own, and with Connect for
// [Upstream.ConnectTimeout].
//
// Total is over for what lasts (WebSocket, text/event-stream, gRPC) once the
// answer has begun, and Idle takes its place. For gRPC requests, which may last
// themselves, Head, PerTry and Total begin when the request has been sent
// completely; what a client says in grpc-timeout bounds the whole.
type Timeouts struct {
	// Connect is for reaching an endpoint, up to 1 min.
	Connect time.Duration
	// TLS is for the handshake with an endpoint that speaks TLS, up to 1 min; 0:
	// Connect includes it.
	TLS time.Duration
	// Head is from the request sent to the answer's head, up to 1 h.
	Head time.Duration
	// Idle is between two pieces of a body or tunnel, each way, up to 24 h;
	// default 60 s.
	Idle time.Duration
	// PerTry is for one attempt up to the answer's head, up to 24 h.
	PerTry time.Duration
	// Total is for the whole exchange, retries included, up to 24 h; default 3 s.
	// It ends waits: a body whose next bytes are always at hand may take longer.
	// Event streams, gRPC and tunnels are bounded by Idle alone once they flow.
	Total time.Duration
}

// unset marks a timeout that a document does not say.
const unset time.Duration = -1

func defaultTimeouts() Timeouts {
	return Timeouts{Idle: DefaultIdleTimeout, Total: DefaultTotalTimeout}
}

func unsetTimeouts() Timeouts {
	return Timeouts{Connect: unset, TLS: unset, Head: unset, Idle: unset, PerTry: unset, Total: unset}
}

// or fills in what t does not say.
func (t Timeouts) or(base Timeouts) Timeouts {
	fill := func(d *time.Duration, base time.Duration) {
		if *d == unset {
			*d = base
		}
	}
	fill(&t.Connect, base.Connect)
	fill(&t.TLS, base.TLS)
	fill(&t.Head, base.Head)
	fill(&t.Idle, base.Idle)
	fill(&t.PerTry, base.PerTry)
	fill(&t.Total, base.Total)
	return t
}

func decodeTimeouts(o *object, t *Timeouts) {
	*t = unsetTimeouts()
	o.below("timeouts", func(o *object) {
		o.duration("connect", &t.Connect, 0, time.Minute)
		o.duration("tls", &t.TLS, 0, time.Minute)
		o.duration("head", &t.Head, 0, time.Hour)
		o.duration("idle", &t.Idle, 0, day)
		o.duration("per_try", &t.PerTry, 0, day)
		o.duration("total", &t.Total, 0, day)
		o.end()
	})
}

// The reasons for which a failed attempt is followed by another.
const (
	// RetryReset: the connection broke off before an answer.
	RetryReset = "reset"
	// RetryTimeout: the answer did not begin in time.
	RetryTimeout = "timeout"
	// RetryGatewayError: the answer is 502, 503 or 504.
	RetryGatewayError = "gateway-error"
	// RetryUnavailable: the answer to a gRPC request is the status UNAVAILABLE
	// and nothing else.
	RetryUnavailable = "grpc-unavailable"
)

// retryReasons are all of them, sorted.
func retryReasons() []string {
	return []string{RetryGatewayError, RetryUnavailable, RetryReset, RetryTimeout}
}

// Retries says how often and for which reasons a failed attempt is repeated,
// beyond those that wrote no byte.
type Retries struct {
	Attempts int // 0 to 5; default 1
	// On are the reasons, sorted; default all.
	On []string
}

func decodeRetries(o *object, r *Retries) {
	*r = Retries{Attempts: DefaultRetries, On: retryReasons()}
	o.below("retries", func(o *object) {
		o.integer("attempts", &r.Attempts, 0, MaxRetries)
		if o.get("on") != nil {
			r.On = nil
		}
		for i, n := range o.items("on", len(retryReasons())) {
			var reason string
			if !o.d.text(n, o.item("on", i), &reason) {
				continue
			}
			if !slices.Contains(retryReasons(), reason) {
				o.d.wrong(resolve(n), o.item("on", i), oneOf(retryReasons()))
			}
			r.On = append(r.On, reason)
		}
		if o.get("on") != nil && len(r.On) == 0 && !o.d.refused[o.path("on")] {
			o.d.problem(o.get("on"), o.path("on"), "an empty list", "at least one reason, or attempts: 0")
		}
		slices.Sort(r.On)
		r.On = slices.Compact(r.On)
		o.end("budget", "backoff")
	})
}

// HashKey is what requests are kept at one endpoint by: exactly one of its
// fields is set.
type HashKey struct {
	Header   string `json:"header,omitempty"`    // name of a field
	Cookie   string `json:"cookie,omitempty"`    // name of a cookie
	Query    string `json:"query,omitempty"`     // name of a parameter
	ClientIP bool   `json:"client_ip,omitempty"` // whom the request is attributed to
}

// Bounds of a list of hash keys.
const (
	maxHashKeys = 8
	maxHashName = 128
)

// decodeHash reads a list of keys, the first of which a request has decides.
func decodeHash(o *object, keys *[]HashKey) {
	if o.get("hash") == nil {
		return
	}
	const allowed = "one of header, cookie, query (with a name) and client_ip (true)"
	items := o.items("hash", maxHashKeys)
	for i, n := range items {
		inner, ok := o.d.object(n, o.item("hash", i))
		if !ok {
			continue
		}
		var key HashKey
		inner.text("header", &key.Header)
		inner.text("cookie", &key.Cookie)
		inner.text("query", &key.Query)
		inner.flag("client_ip", &key.ClientIP)
		inner.end("claim")
		set := 0
		for _, name := range []string{key.Header, key.Cookie, key.Query} {
			if name != "" {
				set++
			}
			if len(name) > maxHashName || !printableASCII(name) {
				o.d.problem(n, o.item("hash", i), "name "+federation.Quote(name), fmt.Sprintf("a name of at most %d printable ASCII bytes", maxHashName))
			}
		}
		if key.ClientIP {
			set++
		}
		if set != 1 || len(inner.order) != 1 {
			o.d.problem(n, o.item("hash", i), strconv.Itoa(set)+" keys", allowed)
		}
		*keys = append(*keys, key)
	}
	if len(items) == 0 && !o.d.refused[o.path("hash")] {
		o.d.problem(o.get("hash"), o.path("hash"), "an empty list", "at least one key")
	}
}

// Queue is where requests wait that find no place within the limits.
type Queue struct {
	Size    int           // how many wait, in each subset; 1 to 100,000
	Timeout time.Duration // how long, 1 ms to 1 min; default 1 s
}

// DefaultQueueTimeout is [Queue.Timeout] where a document does not say.
const DefaultQueueTimeout = time.Second

func decodeLimits(o *object, p *ServicePolicy) {
	o.below("limits", func(o *object) {
		o.integer("max_requests", &p.MaxRequests, 1, federation.MaxCapacity)
		o.integer("max_service_requests", &p.MaxServiceRequests, 1, math.MaxInt32)
		o.below("queue", func(o *object) {
			p.Queue.Timeout = DefaultQueueTimeout
			o.require("size", fmt.Sprintf("a whole number, 1 to %d", admission.MaxSize))
			o.integer("size", &p.Queue.Size, 1, admission.MaxSize)
			o.duration("timeout", &p.Queue.Timeout, admission.MinWait, admission.MaxWait)
			o.end()
		})
		if n := o.get("queue"); n != nil && o.get("max_requests") == nil && o.get("max_service_requests") == nil {
			o.d.problem(n, o.path("queue"), "a queue without a limit", "max_requests or max_service_requests beside it")
		}
		o.end("max_connections", "max_pending")
	})
}

// decodeBreaker reads a profile's name, or options of one's own.
func decodeBreaker(o *object, p *ServicePolicy) {
	n := o.get("breaker")
	if n == nil {
		return
	}
	if n.Kind != yaml.MappingNode {
		var name string
		o.choice("breaker", &name, breaker.Profiles()...)
		if options, ok := breaker.Profile(name); ok {
			p.Breaker = &options
		}
		return
	}
	o.below("breaker", func(o *object) {
		options := new(breaker.Options)
		o.require("failure_ratio", "a number, 0.01 to 1")
		o.number("failure_ratio", &options.FailureRatio, 0.01, 1)
		o.require("min_requests", "a whole number")
		o.integer("min_requests", &options.MinRequests, 1, breaker.MaxMinRequests)
		o.require("open_for", "a time with a unit")
		o.duration("open_for", &options.OpenFor, breaker.MinDuration, breaker.MaxDuration)
		o.duration("window", &options.Window, breaker.MinDuration, breaker.MaxDuration)
		o.integer("trials", &options.Trials, 1, breaker.MaxTrials)
		o.end()
		p.Breaker = options
	})
}

// decodeBalance reads how an endpoint is picked.
func decodeBalance(o *object, p *ServicePolicy) {
	text := string(p.Balance)
	o.choice("balance", &text, string(BalanceP2C), string(BalanceWeighted), string(BalanceHash))
	p.Balance = Balance(text)
	decodeHash(o, &p.Hash)
	o.number("load_bound", &p.LoadBound, balance.MinBound, balance.MaxBound)
	if p.Balance == BalanceHash {
		if o.get("hash") == nil && !o.d.refused[o.path("balance")] {
			o.d.problem(o.get("balance"), o.path("balance"), "consistent-hash without hash", "a list of keys in hash")
		}
		return
	}
	for _, name := range []string{"hash", "load_bound"} {
		if n := o.get(name); n != nil {
			o.d.problem(n, o.path(name), name+" with balance "+text, "balance consistent-hash")
		}
	}
}

// number reads a number within bounds.
func (o *object) number(name string, into *float64, least, most float64) {
	n := o.get(name)
	if n == nil {
		return
	}
	value, err := strconv.ParseFloat(n.Value, 64)
	if n.Kind != yaml.ScalarNode || n.Tag != "!!int" && n.Tag != "!!float" || err != nil || !(value >= least && value <= most) {
		o.d.wrong(n, o.path(name), fmt.Sprintf("a number, %g to %g", least, most))
		return
	}
	*into = value
}

// bindPolicies gives each route what its service says where it says nothing.
func (s *draft) bindPolicies(services map[string]*declared[service]) {
	for i := range s.routes {
		x := &s.routes[i]
		policy := DefaultServicePolicy()
		if holder := services[x.value.Service]; holder != nil {
			policy = holder.value.policy
		}
		x.value.Timeouts = x.value.Timeouts.or(policy.Timeouts)
		if x.value.Hash != nil && policy.Balance != BalanceHash {
			x.problemAt("hash", fmt.Sprintf("hash on service %s, whose balance is %s", federation.Quote(x.value.Service), policy.Balance),
				"a Service document with balance consistent-hash")
		}
	}
}

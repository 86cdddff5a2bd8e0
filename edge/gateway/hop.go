package gateway

import (
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/grayfed/grayfed/edge/exchange"
	"github.com/grayfed/grayfed/federation"
)

// hop is what an edge tells another about a request that it sends there: all
// that the other needs to answer it as if the endpoint had been asked directly.
// It stands in one field, "x-gray-hop", which counts on the listener for other
// edges alone and is taken off everywhere else.
//
// The field is "name=value" pairs with ";" between them. Unknown names are those
// of a later version and skipped.
type hop struct {
	from    string // the edge that sends it
	hops    int    // how many edges have sent it on, that one included
	service string
	release string // whose subset is named; empty: the baseline
	// selects is route.Lane.Selects at the sender.
	selects   uint64
	panicking bool   // unhealthy endpoints are open to it
	client    string // whom it is attributed to
	hash      uint64
	hashed    bool
	host      bool   // the endpoint's address is the host it is sent with
	not       string // ids of instances that have failed it, with commas between them
	// tries is how many attempts there may write nothing; 0: maxUnwritten, as
	// earlier versions mean it.
	tries    int
	timeouts exchange.Timeouts
	// until and hard are how much is left of timing's; 0: unbounded.
	until, hard time.Duration
}

// maxHops is how many edges a request may be sent on by: whoever gets it serves
// it from its own zone or not at all.
const maxHops = 1

// unknownClient stands for a client that has no address.
const unknownClient = "unknown"

// append writes the field's value.
func (h *hop) append(b []byte) []byte {
	b = append(append(b, "from="...), h.from...)
	b = strconv.AppendInt(append(b, ";hops="...), int64(h.hops), 10)
	b = append(append(b, ";service="...), h.service...)
	if h.release != "" {
		b = append(append(b, ";release="...), h.release...)
	}
	b = strconv.AppendUint(append(b, ";selects="...), h.selects, 16)
	if h.panicking {
		b = append(b, ";panic=1"...)
	}
	client := h.client
	if !plainAddr(client) {
		client = unknownClient
	}
	b = append(append(b, ";client="...), client...)
	if h.hashed {
		b = strconv.AppendUint(append(b, ";hash="...), h.hash, 16)
	}
	if h.host {
		b = append(b, ";host=1"...)
	}
	if h.not != "" {
		b = append(append(b, ";not="...), h.not...)
	}
	if h.tries > 0 {
		b = strconv.AppendInt(append(b, ";tries="...), int64(h.tries), 10)
	}
	for _, bound := range h.bounds() {
		if *bound.d > 0 {
			b = append(append(append(b, ';'), bound.name...), '=')
			b = strconv.AppendInt(b, max(1, bound.d.Microseconds()), 10)
		}
	}
	return b
}

type hopBound struct {
	name string
	d    *time.Duration
}

// bounds are the times of a hop, in microseconds on the wire.
func (h *hop) bounds() [7]hopBound {
	t := &h.timeouts
	return [...]hopBound{
		{"connect", &t.Connect}, {"tls", &t.TLS}, {"head", &t.Head}, {"idle", &t.Idle}, {"body", &t.Body},
		{"until", &h.until}, {"hard", &h.hard},
	}
}

func plainAddr(text string) bool {
	addr, err := netip.ParseAddr(text)
	return err == nil && addr.Zone() == ""
}

// maxHopTime is what longer times come to.
const maxHopTime = 365 * 24 * time.Hour

// parseHop reads the field's value. ok is false when it is not well formed, or
// lacks what every version has.
func parseHop(text string) (h hop, ok bool) {
	seen := make(map[string]bool, 16)
	for text != "" {
		var pair string
		pair, text, _ = strings.Cut(text, ";")
		name, value, found := strings.Cut(pair, "=")
		if !found || value == "" || seen[name] || !h.set(name, value) {
			return hop{}, false
		}
		seen[name] = true
	}
	ok = seen["from"] && seen["hops"] && seen["service"] && seen["selects"] && seen["client"]
	return h, ok
}

func (h *hop) set(name, value string) bool {
	var err error
	switch name {
	case "from":
		h.from = value
		return federation.ValidName(value)
	case "service":
		h.service = value
		return federation.ValidName(value)
	case "release":
		h.release = value
		return federation.ValidName(value)
	case "client":
		h.client = value
		return value == unknownClient || plainAddr(value)
	case "not":
		h.not = value
	case "panic":
		h.panicking = value == "1"
	case "host":
		h.host = value == "1"
	case "hops":
		h.hops, err = strconv.Atoi(value)
		return err == nil && h.hops > 0
	case "tries":
		n, err := strconv.Atoi(value)
		h.tries = min(n, maxUnwritten)
		return err == nil && n > 0
	case "selects":
		h.selects, err = strconv.ParseUint(value, 16, 64)
	case "hash":
		h.hash, err = strconv.ParseUint(value, 16, 64)
		h.hashed = true
	default:
		for _, bound := range h.bounds() {
			if bound.name == name {
				var n uint64
				n, err = strconv.ParseUint(value, 10, 63)
				*bound.d = time.Duration(max(1, min(n, uint64(maxHopTime/time.Microsecond)))) * time.Microsecond
			}
		}
	}
	return err == nil
}

// refuses reports whether the instance has failed the request before.
func (h *hop) refuses(id string) bool {
	for known := range strings.SplitSeq(h.not, ",") {
		if known == id {
			return true
		}
	}
	return false
}

// What an edge says of a request that another sent there, in the answer's
// "x-gray-hop".
const (
	hopServed       = "served"        // by an endpoint: all else of the answer is its
	hopNotProcessed = "not-processed" // nothing of it has reached an endpoint
	hopFailed       = "failed"        // some of it may have reached an endpoint
)

// verdict is what such an answer says.
type verdict struct {
	what     string
	instance string // that was tried last
	reason   string // of not-processed
	tried    int    // of not-processed: endpoints that were tried in vain, up to maxUnwritten
	timeout  bool   // of failed: it took too long
	reused   bool   // of failed: the connection had carried others
	gateway  bool   // of failed: it was the edge that gave up
}

// append writes the field's value.
func (v *verdict) append(b []byte) []byte {
	b = append(b, v.what...)
	for _, pair := range [...]struct{ name, value string }{{"instance", v.instance}, {"reason", v.reason}} {
		if pair.value != "" {
			b = append(append(append(append(b, ';'), pair.name...), '='), pair.value...)
		}
	}
	if v.tried > 0 {
		b = strconv.AppendInt(append(b, ";tried="...), int64(v.tried), 10)
	}
	for _, flag := range [...]struct {
		name string
		set  bool
	}{{"timeout", v.timeout}, {"reused", v.reused}, {"gateway", v.gateway}} {
		if flag.set {
			b = append(append(append(b, ';'), flag.name...), "=1"...)
		}
	}
	return b
}

// parseVerdict reads the field's value; unknown names are skipped.
func parseVerdict(text string) (v verdict, ok bool) {
	v.what, text, _ = strings.Cut(text, ";")
	for text != "" {
		var pair string
		pair, text, _ = strings.Cut(text, ";")
		name, value, _ := strings.Cut(pair, "=")
		switch name {
		case "instance":
			v.instance = value
		case "reason":
			v.reason = value
		case "tried":
			n, err := strconv.ParseUint(value, 10, 31)
			if err == nil {
				v.tried = int(min(n, maxUnwritten))
			}
		case "timeout":
			v.timeout = value == "1"
		case "reused":
			v.reused = value == "1"
		case "gateway":
			v.gateway = value == "1"
		}
	}
	return v, v.what == hopServed || v.what == hopNotProcessed || v.what == hopFailed
}

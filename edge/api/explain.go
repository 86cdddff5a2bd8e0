package api

// ExplainRequest is the body of POST /v1/explain: a request that is decided on
// as if it had come, and sent nowhere.
type ExplainRequest struct {
	Method string `json:"method,omitempty"` // GET when empty
	Host   string `json:"host,omitempty"`
	// Path begins with "/" and has no query; required.
	Path  string `json:"path"`
	Query string `json:"query,omitempty"` // without "?"
	// Headers are the request's, one value a name.
	Headers map[string]string `json:"headers,omitempty"`
	// Tag is the value of x-release-tag; not together with that header.
	Tag string `json:"tag,omitempty"`
	// ClientIP is whom it comes from: decides `tags: trusted`; empty: an
	// untrusted client.
	ClientIP string `json:"client_ip,omitempty"`
}

// The outcomes of an explained request.
const (
	OutcomeRouted           = "routed"
	OutcomeNoRoute          = "no-route"           // 404
	OutcomeMethodNotAllowed = "method-not-allowed" // 405
	OutcomeBadRequest       = "bad-request"        // 400
	OutcomeUnavailable      = "unavailable"        // 503: no usable rung
)

// Explanation is what would become of a request, and why.
type Explanation struct {
	Outcome string `json:"outcome"`
	// Status is what the edge itself would answer; 0 when an instance would.
	Status int `json:"status,omitempty"`
	// Detail says more of an outcome other than routed.
	Detail  string `json:"detail,omitempty"`
	Route   string `json:"route,omitempty"`
	Service string `json:"service,omitempty"`
	Release string `json:"release,omitempty"`
	// Path is the request's in its normal form, as routes match it.
	// UpstreamPath and UpstreamHost are what the instance would see, rewritten
	// where the route says so. All are empty where none would see it.
	Path         string `json:"path,omitempty"`
	UpstreamPath string `json:"upstream_path,omitempty"`
	UpstreamHost string `json:"upstream_host,omitempty"`
	// Subset, Rung and Zone are where the request would go.
	Subset string `json:"subset,omitempty"`
	Rung   string `json:"rung,omitempty"`
	Zone   string `json:"zone,omitempty"`
	// Reason is why it took that lane or got nothing: untagged, in-release,
	// not-in-release, unknown-tag, ...
	Reason   string     `json:"reason,omitempty"`
	Endpoint *Candidate `json:"endpoint,omitempty"`
	// Steps are the rungs in the order in which they are tried, those passed
	// over included.
	Steps []Step `json:"steps"`
	// Next are the endpoints that further attempts would take, in order.
	Next []Candidate `json:"next"`
}

// Step is one zone of one subset on the ladder.
type Step struct {
	Rung   string `json:"rung"`
	Subset string `json:"subset"`
	Zone   string `json:"zone"`
	// SharePercent is how many of the lane's requests begin here.
	SharePercent float64 `json:"share_percent"`
	// How many instances there are, and why not all are usable.
	Registered int `json:"registered"`
	Usable     int `json:"usable"`
	Draining   int `json:"draining"`
	Unhealthy  int `json:"unhealthy"`
	Full       int `json:"full"` // at a limit, or refused by a breaker
	// Unreachable counts those that only edges of their zone lead to, none of
	// which lets requests in.
	Unreachable int `json:"unreachable,omitempty"`
	// Through is the edge that requests would go through; empty: directly, or
	// not at all.
	Through string `json:"through,omitempty"`
	// Lost: all edges of the zone are dead and an instance there failed.
	Lost bool `json:"lost"`
	// Why it was taken or passed over, for people.
	Why string `json:"why"`
}

// Candidate is an endpoint.
type Candidate struct {
	ID      string `json:"id"`
	Zone    string `json:"zone"`
	Address string `json:"address"`
	Version string `json:"version,omitempty"`
	Rung    string `json:"rung"`
	// Through is the edge that the request would go through, which picks among
	// the instances of the subset in its zone itself; empty: directly.
	Through string `json:"through,omitempty"`
}

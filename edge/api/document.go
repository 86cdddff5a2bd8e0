package api

import "github.com/grayfed/grayfed/federation"

// Releases is the answer of GET /v1/releases.
type Releases struct {
	Revision int64     `json:"revision"`
	Releases []Release `json:"releases"` // by name
}

// Release is a tag, what it selects, and how it falls back: the answer of GET
// /v1/releases/{name}.
type Release struct {
	Name     string              `json:"name"`
	Fallback federation.Fallback `json:"fallback"` // strict or permissive
	Paused   bool                `json:"paused"`
	// Services are those it covers, by name.
	Services map[string]Canaries `json:"services"`
}

// Canaries are the instances that a release selects in one service.
type Canaries struct {
	federation.Selector
	Instances int `json:"instances"`
	Usable    int `json:"usable"`
	// Zones counts the usable ones; a zone with instances and none usable is
	// there with 0.
	Zones map[string]int `json:"zones"`
}

// Routes is the answer of GET /v1/routes.
type Routes struct {
	Config string  `json:"config"` // hash of the documents
	Routes []Route `json:"routes"` // by id
}

// Route is one route as it is in force.
type Route struct {
	ID       string   `json:"id"`
	Host     string   `json:"host,omitempty"`
	Path     string   `json:"path,omitempty"`
	Methods  []string `json:"methods,omitempty"` // none: every method
	Headers  []Match  `json:"headers,omitempty"`
	Query    []Match  `json:"query,omitempty"`
	Priority int      `json:"priority"`
	// Upstream is what the document names; Service is what answers.
	Upstream string `json:"upstream"`
	Service  string `json:"service"`
	Tags     string `json:"tags"` // whose release tags count: any or trusted
	Explain  bool   `json:"explain"`

	// What is changed on the way; absent: nothing.
	Rewrite         *Rewrite       `json:"rewrite,omitempty"`
	RequestHeaders  *HeaderChanges `json:"request_headers,omitempty"`
	ResponseHeaders *HeaderChanges `json:"response_headers,omitempty"`

	RateLimit *RateLimit `json:"rate_limit,omitempty"`
	Timeouts  Timeouts   `json:"timeouts"`
	Retries   int        `json:"retries"`
	File      string     `json:"file,omitempty"`
	Line      int        `json:"line,omitempty"`
}

// Rewrite is how the upstream's path and host come about; at most one of
// strip_prefix, replace_prefix and regex.
type Rewrite struct {
	StripPrefix   string       `json:"strip_prefix,omitempty"`
	ReplacePrefix *Replacement `json:"replace_prefix,omitempty"`
	Regex         *Replacement `json:"regex,omitempty"`
	// Host is keep, upstream, or a fixed name.
	Host string `json:"host"`
	// SamplePath is one that the route matches, SampleUpstreamPath what
	// becomes of it; absent when paths go on as they are.
	SamplePath         string `json:"sample_path,omitempty"`
	SampleUpstreamPath string `json:"sample_upstream_path,omitempty"`
}

// Replacement is what is replaced by what.
type Replacement struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// HeaderChanges are fields that are removed, set and added. Values may hold
// variables: ${name}.
type HeaderChanges struct {
	Set    map[string]string `json:"set,omitempty"`
	Add    map[string]string `json:"add,omitempty"`
	Remove []string          `json:"remove,omitempty"`
}

// Match is a condition on a header or a query parameter: one of exact, regex
// and present.
type Match struct {
	Name    string `json:"name"`
	Exact   string `json:"exact,omitempty"`
	Regex   string `json:"regex,omitempty"`
	Present *bool  `json:"present,omitempty"`
}

// RateLimit is a token bucket.
type RateLimit struct {
	RPM   int `json:"rpm"`
	Burst int `json:"burst"`
}

// Timeouts bound the requests of a route; "0s": no bound of its own.
type Timeouts struct {
	Connect federation.Duration `json:"connect"`
	TLS     federation.Duration `json:"tls"`
	Head    federation.Duration `json:"head"`
	Idle    federation.Duration `json:"idle"`
	PerTry  federation.Duration `json:"per_try"`
	Total   federation.Duration `json:"total"`
}

package api

import (
	"context"
	"time"
)

// Failover is the answer of GET /v1/failover: what one edge has decided of its
// own entry in DNS, and what it knows of the others'.
type Failover struct {
	Edge string `json:"edge"` // that answers
	Zone string `json:"zone"`
	// Role is primary or standby; absent: the edge has no entry, and the rest
	// is empty.
	Role     string            `json:"role,omitempty"`
	Decision *FailoverDecision `json:"decision,omitempty"`
	Consul   FailoverConsul    `json:"consul"`
	DNS      *FailoverDNS      `json:"dns,omitempty"` // absent: it answers no DNS
	// Entries are those of all edges, by edge, its own included.
	Entries []FailoverEntry `json:"entries"`
}

// FailoverDecision is what an edge's own entry is to be.
type FailoverDecision struct {
	In     bool      `json:"in"`     // clients are sent to it
	Weight int       `json:"weight"` // while it is in
	Reason string    `json:"reason"`
	Since  time.Time `json:"since"` // when it went in or out
}

// FailoverConsul is how the edge stands to Consul.
type FailoverConsul struct {
	Configured bool `json:"configured"`
	// Registered: the agent has taken the edge's entry.
	Registered bool `json:"registered"`
	// Leader: a leader of Consul's has confirmed the entries in the last
	// seconds. Without one, nothing that Consul says counts.
	Leader bool `json:"leader"`
	// ConfirmedMS is how long ago one did, in milliseconds; -1: never.
	ConfirmedMS int64 `json:"confirmed_ms"`
	// Error is what last went wrong; absent while all is well.
	Error string `json:"error,omitempty"`
}

// FailoverDNS is where the edge answers DNS.
type FailoverDNS struct {
	Domain  string `json:"domain"`
	Address string `json:"address"` // ip:port, UDP and TCP
	TTLMS   int64  `json:"ttl_ms"`
}

// FailoverEntry is one edge's entry. Its verdicts are alive, dead or unknown.
type FailoverEntry struct {
	Edge      string   `json:"edge"`
	Zone      string   `json:"zone"`
	Role      string   `json:"role"`
	Addresses []string `json:"addresses"`
	Port      int      `json:"port"`
	Weight    int      `json:"weight"` // that it asked for last
	// Consul is what a leader of Consul's reports, Gossip what gossip says of
	// the edge, Probe what the answering edge finds at its data listener.
	Consul string `json:"consul"`
	Gossip string `json:"gossip"`
	Probe  string `json:"probe"`
	// SharePercent is its share in what DNS answers, as the answering edge
	// folds it; 0: it is not in the answers.
	SharePercent float64 `json:"share_percent"`
}

// Failover asks what the edge has decided of its entry in DNS, and what it
// knows of the others'.
func (c *Client) Failover(ctx context.Context) (*Failover, error) {
	return get[Failover](ctx, c, "/v1/failover")
}

package gateway

import (
	"errors"
	"fmt"
	"time"

	"github.com/grayfed/grayfed/edge/admission"
	"github.com/grayfed/grayfed/edge/balance"
	"github.com/grayfed/grayfed/edge/breaker"
)

// Balance is how one endpoint of a group is picked.
type Balance uint8

// The ways to pick.
const (
	// P2C is power of two choices by least load.
	P2C Balance = iota
	// WeightedRoundRobin goes round in proportion to the weights.
	WeightedRoundRobin
	// ConsistentHash keeps what has the same key at one endpoint, as long as
	// that has not much more than its share; see [balance.Ring]. A request
	// without a key goes anywhere, by weight.
	ConsistentHash
)

// Policy is how a service's endpoints are treated.
type Policy struct {
	Balance Balance
	// Hash is what ConsistentHash goes by on routes that do not say; the first
	// that a request has decides.
	Hash []HashKey
	// LoadBound is how many times its share of what is in flight an endpoint may
	// have before keys go on to the next, balance.MinBound to balance.MaxBound;
	// 0 stands for balance.DefaultBound. With ConsistentHash only.
	LoadBound float64
	// MaxRequests bounds what this edge has in flight to one endpoint; 0 for
	// no bound.
	MaxRequests int
	// MaxServiceRequests bounds what this edge has in flight to all endpoints
	// of the service together; 0 for no bound.
	MaxServiceRequests int
	// Queue is where requests wait that find no place because of the two bounds,
	// in one queue for each subset; its zero value is none. Who finds no place
	// gets 503.
	Queue admission.Options
	// Breaker stops sending to an endpoint that fails most requests; nil: none.
	Breaker *breaker.Options
}

// HashSource is where a key of [ConsistentHash] comes from.
type HashSource uint8

// The sources. The zero value is none.
const (
	HashUnknown  HashSource = iota
	HashHeader              // the first field of that name
	HashCookie              // the first cookie of that name
	HashQuery               // the first parameter of that name, as written
	HashClientIP            // whom the request is attributed to
)

// HashKey is what requests are kept together by. An empty value counts as none.
type HashKey struct {
	Source HashSource
	Name   string // of no meaning with HashClientIP
}

// RetryOn is a set of reasons for which a failed attempt that wrote something
// may be followed by another.
type RetryOn uint8

// The reasons.
const (
	// RetryReset: the connection broke off before an answer.
	RetryReset RetryOn = 1 << iota
	// RetryTimeout: the answer did not begin in time.
	RetryTimeout
	// RetryGatewayError: the answer is 502, 503 or 504.
	RetryGatewayError
	// RetryUnavailable: the answer to a gRPC request is the status UNAVAILABLE
	// and nothing else, so that no message of it was seen.
	RetryUnavailable
	// RetryAll is every reason.
	RetryAll = RetryReset | RetryTimeout | RetryGatewayError | RetryUnavailable
)

func (p *Policy) validate() error {
	var errs []error
	if p.Balance > ConsistentHash {
		errs = append(errs, fmt.Errorf("balance is %d", p.Balance))
	}
	errs = append(errs, validateKeys(p.Hash))
	if !(p.LoadBound == 0 || p.LoadBound >= balance.MinBound && p.LoadBound <= balance.MaxBound) {
		errs = append(errs, fmt.Errorf("load bound is %g, allowed %g to %g", p.LoadBound, balance.MinBound, balance.MaxBound))
	}
	if p.MaxRequests < 0 || p.MaxServiceRequests < 0 {
		errs = append(errs, errors.New("a limit of requests is negative"))
	}
	if err := p.Queue.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("queue: %w", err))
	}
	if p.Breaker != nil {
		if err := p.Breaker.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("breaker: %w", err))
		}
	}
	return errors.Join(errs...)
}

func validateKeys(keys []HashKey) error {
	for _, key := range keys {
		if key.Source == HashUnknown || key.Source > HashClientIP || key.Source != HashClientIP && key.Name == "" {
			return fmt.Errorf("hash key %d of %q has no source or no name", key.Source, key.Name)
		}
	}
	return nil
}

func (r *Route) validate() error {
	if r.Retries < 0 || r.Retries > MaxRetries {
		return fmt.Errorf("found %d retries, allowed 0 to %d", r.Retries, MaxRetries)
	}
	for _, d := range [...]time.Duration{r.Timeouts.Connect, r.Timeouts.TLS, r.Timeouts.Head, r.Timeouts.Idle, r.PerTry, r.Total} {
		if d < 0 {
			return fmt.Errorf("timeout %s is negative", d)
		}
	}
	if r.RateLimit != nil {
		if err := r.RateLimit.Validate(); err != nil {
			return fmt.Errorf("rate limit: %w", err)
		}
	}
	return validateKeys(r.Hash)
}

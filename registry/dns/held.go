package dns

import (
	"errors"
	"net/netip"
	"time"
)

// The families, as indexes.
const (
	ipv4 = iota
	ipv6
)

// outcome is what asking for one family came to.
type outcome uint8

const (
	failed outcome = iota // nobody answered with something to go by
	absent                // an answer: there is no such name, or no such record
	found
)

// answer is what is known of one family after a lookup.
type answer struct {
	outcome outcome
	addrs   []netip.Addr  // found: sorted, none twice
	ttl     time.Duration // found, and absent where the answer said it; else 0
	err     error         // failed
}

// answers are those of the families.
type answers [2]answer

func (a answers) err() error { return errors.Join(a[ipv4].err, a[ipv6].err) }

// held is what counts as true of a name.
type held struct {
	opts     *Options
	addrs    [2][]netip.Addr // by family
	failures int             // lookups in a row without any answer
	absences int             // lookups since the last address that found none
}

func (h *held) empty() bool { return len(h.addrs[ipv4])+len(h.addrs[ipv6]) == 0 }

// take folds a lookup in and returns how long to wait for the next one. A
// failure changes nothing; that a name does not exist is believed only when
// said repeatedly, because a broken zone or a restarted server says it too.
func (h *held) take(a answers) time.Duration {
	if a[ipv4].outcome != found && a[ipv6].outcome != found {
		return h.takeNone(a)
	}
	h.failures, h.absences = 0, 0
	ttl := h.opts.MaxTTL
	for family, one := range a {
		switch one.outcome {
		case found:
			h.addrs[family] = one.addrs
			ttl = min(ttl, one.ttl)
		case absent:
			h.addrs[family] = nil
		case failed: // the other family's answer says nothing of this one
		}
	}
	return max(ttl, h.opts.MinTTL)
}

func (h *held) takeNone(a answers) time.Duration {
	if a[ipv4].outcome == failed || a[ipv6].outcome == failed {
		h.failures++
		return h.backoff(h.failures)
	}
	h.failures = 0
	h.absences++
	if h.absences >= h.opts.Confirmations {
		h.addrs = [2][]netip.Addr{}
	}
	// Until its own TTL (RFC 2308) the same answer would come from a cache.
	if ttl := max(a[ipv4].ttl, a[ipv6].ttl); ttl > 0 {
		return min(max(ttl, h.opts.MinTTL), h.opts.MaxTTL)
	}
	return h.backoff(h.absences)
}

// backoff is the wait after the n-th time without success.
func (h *held) backoff(n int) time.Duration {
	wait := time.Second
	for range n - 1 {
		if wait >= h.opts.Retry {
			break
		}
		wait *= 2
	}
	return jitter(min(wait, h.opts.Retry))
}

package dns

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"
)

// hostsTTL is how long an answer of the hosts file counts, as in the standard
// library.
const hostsTTL = 5 * time.Second

// lookup finds the addresses of an upstream's host, without those that the
// policy refuses.
func (r *Resolver) lookup(ctx context.Context, u Upstream) answers {
	out := r.lookupHost(ctx, u.Host)
	for family := range out {
		out[family] = r.permitted(out[family], u.Port)
	}
	return out
}

// permitted drops the addresses that the policy refuses. An answer of nothing
// else is a failure: it is no word that the addresses before are wrong.
func (r *Resolver) permitted(a answer, port uint16) answer {
	var kept []netip.Addr
	var last error
	for _, addr := range a.addrs {
		if err := r.opts.Policy.Check(netip.AddrPortFrom(addr, port).String()); err != nil {
			r.metrics.refused.Add(1)
			last = err
			continue
		}
		kept = append(kept, addr)
	}
	if a.outcome == found && len(kept) == 0 {
		return answer{err: fmt.Errorf("no address that is allowed: %w", last)}
	}
	a.addrs = kept
	return a
}

// lookupHost asks the hosts file, then DNS.
func (r *Resolver) lookupHost(ctx context.Context, host string) answers {
	listed, err := readHosts(r.opts.Hosts, host)
	if err != nil {
		r.opts.Log.Debug("hosts file cannot be read", "error", err)
	}
	if len(listed[ipv4]) > 0 || len(listed[ipv6]) > 0 {
		var out answers
		for family, addrs := range listed {
			out[family].outcome = absent
			if len(addrs) > 0 {
				out[family] = answer{outcome: found, addrs: addrs, ttl: hostsTTL}
			}
		}
		return out
	}
	conf, err := readResolvConf(r.opts.ResolvConf)
	if err != nil {
		return answers{{err: err}, {err: err}}
	}
	if len(r.opts.Servers) > 0 {
		conf.servers = r.opts.Servers
	}
	return conf.lookup(ctx, host)
}

// lookup asks for both families of each candidate until one has an address.
// It also ends at one that could not be asked: going on could end at another
// host than the name stood for a moment ago.
func (c *resolvConf) lookup(ctx context.Context, host string) answers {
	out := answers{{outcome: absent}, {outcome: absent}}
	for _, name := range c.candidates(host) {
		var now answers
		var wait sync.WaitGroup
		wait.Go(func() { now[ipv6] = c.ask(ctx, name, ipv6) })
		now[ipv4] = c.ask(ctx, name, ipv4)
		wait.Wait()
		if now[ipv4].outcome != absent || now[ipv6].outcome != absent {
			return now
		}
		for family := range out {
			out[family].ttl = shorter(out[family].ttl, now[family].ttl)
		}
	}
	return out
}

// shorter is the lower of two TTLs of which 0 says nothing.
func shorter(a, b time.Duration) time.Duration {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}

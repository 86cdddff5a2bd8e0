package gossip

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/grayfed/grayfed/federation"
)

const (
	// rejoinParallel is how many addresses are tried at once.
	rejoinParallel = 8
	// contestedFor is how long an edge keeps asking for its id after it saw
	// another have it: a predecessor that died is found dead by then.
	contestedFor = 10 * time.Second
)

// ProbeTimeoutError says that the probe timeout is shorter than three round
// trips to a peer, so that probes would fail on a healthy network.
type ProbeTimeoutError struct {
	Peer     string        // address
	RTT      time.Duration // the shortest of several measured
	Timeout  time.Duration // configured
	Smallest time.Duration // allowed
}

// Error names the peer and what to set.
func (e *ProbeTimeoutError) Error() string {
	return fmt.Sprintf("gossip probe timeout %s is too short for peer %s: round trip %s, allowed from %s", e.Timeout, e.Peer, e.RTT, e.Smallest)
}

// rejoin keeps trying the known edges that are not alive, for ever: that is
// how a partition heals however long it lasted. It returns an error only when
// the probe timeout does not fit the first peers.
func (g *Gossip) rejoin(ctx context.Context) error {
	short := g.joinAbsent(ctx)
	if short != nil {
		return short
	}
	t := g.opts.Timing
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		pause := t.RejoinMin
		if !g.isContested() {
			pause += time.Duration(g.opts.Rand() * float64(t.RejoinMax-t.RejoinMin))
		}
		timer.Reset(pause)
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-g.kick:
			// Something changed; but a death that repeats must not make
			// this loop spin.
			timer.Reset(t.RejoinMin)
			select {
			case <-ctx.Done():
				return nil
			case <-timer.C:
			}
		}
		if short := g.joinAbsent(ctx); short != nil {
			g.counters.refused.Add(1)
			g.log.Error("edge not joined: the probe timeout is too short", "peer", short.Peer, "rtt", short.RTT,
				"probe_timeout", short.Timeout, "smallest_allowed", short.Smallest)
		}
	}
}

// isContested reports whether another edge was seen with this one's id lately.
func (g *Gossip) isContested() bool { return time.Now().UnixNano() < g.contested.Load() }

// joinAbsent tries once every known address where no living edge is, and
// returns one peer that is too far away, if there is.
func (g *Gossip) joinAbsent(ctx context.Context) *ProbeTimeoutError {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var short *ProbeTimeoutError
	slots := make(chan struct{}, rejoinParallel)
	for _, addr := range g.absent(ctx) {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			break
		}
		wg.Go(func() {
			defer func() { <-slots }()
			err := g.join(ctx, addr)
			var s *ProbeTimeoutError
			switch {
			case errors.As(err, &s):
				mu.Lock()
				short = s
				mu.Unlock()
			case err != nil:
				g.log.Debug("edge not reached", "address", addr, "error", err)
			}
		})
	}
	wg.Wait()
	return short
}

// absent lists the known addresses where no living edge is: of the
// configuration, of the registry, and of edges that died.
func (g *Gossip) absent(ctx context.Context) []netip.AddrPort {
	g.mu.Lock()
	names := append(append([]string(nil), g.opts.Peers...), g.known...)
	skip := make(map[netip.AddrPort]struct{}, len(g.peers)+1)
	self, _ := netip.ParseAddrPort(g.self.Gossip)
	skip[self] = struct{}{}
	var absent []netip.AddrPort
	contested := g.isContested()
	for _, p := range g.peers {
		switch {
		case p.alive() && contested:
			// One is enough to tell all.
			absent = append(absent, p.addr)
			contested = false
		case p.alive():
			skip[p.addr] = struct{}{}
		case p.edge.Status == federation.EdgeDead && p.addr.IsValid():
			absent = append(absent, p.addr)
		}
	}
	g.mu.Unlock()
	for _, name := range names {
		absent = append(absent, g.resolve(ctx, name)...)
	}
	kept := absent[:0]
	for _, addr := range absent {
		if _, known := skip[addr]; !known {
			skip[addr] = struct{}{}
			kept = append(kept, addr)
		}
	}
	return kept
}

// resolve looks a peer up, anew each time: its address may have changed.
func (g *Gossip) resolve(ctx context.Context, peer string) []netip.AddrPort {
	if ap, err := netip.ParseAddrPort(peer); err == nil {
		return []netip.AddrPort{netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())}
	}
	host, service, err := net.SplitHostPort(peer)
	if err != nil {
		return nil // New has refused it
	}
	ctx, cancel := context.WithTimeout(ctx, g.opts.Timing.StreamTimeout)
	defer cancel()
	port, err := net.DefaultResolver.LookupPort(ctx, "tcp", service)
	if err != nil {
		return nil
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		g.log.Debug("peer not resolved", "peer", peer, "error", err)
		return nil
	}
	var addrs []netip.AddrPort
	for _, ip := range ips[:min(len(ips), 64)] {
		addrs = append(addrs, netip.AddrPortFrom(ip.Unmap(), uint16(port)))
	}
	return addrs
}

// join measures the way to an address and exchanges all state with the edge
// there.
func (g *Gossip) join(ctx context.Context, addr netip.AddrPort) error {
	list := g.list.Load()
	g.counters.rejoins.Add(1)
	if err := g.checkRoundTrip(ctx, addr); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	_, err := list.Join([]string{addr.String()})
	return err
}

// checkRoundTrip returns a [*ProbeTimeoutError] when the probe timeout is less
// than three round trips. It takes the time of a TCP handshake, which the
// kernels answer, so that a busy peer is not mistaken for a far one, and the
// shortest of several.
func (g *Gossip) checkRoundTrip(ctx context.Context, addr netip.AddrPort) error {
	timeout := g.opts.Timing.ProbeTimeout
	shortest := time.Duration(0)
	for range measureAttempts {
		started := time.Now()
		conn, err := g.dial(ctx, addr)
		if err != nil {
			return err
		}
		rtt := time.Since(started)
		if err := conn.Close(); err != nil {
			return fmt.Errorf("measure round trip to %s: %w", addr, err)
		}
		if shortest == 0 || rtt < shortest {
			shortest = rtt
		}
		if probeRoundTrips*shortest <= timeout {
			return nil
		}
	}
	return &ProbeTimeoutError{Peer: addr.String(), RTT: shortest, Timeout: timeout, Smallest: probeRoundTrips * shortest}
}

// dial connects through the transport that memberlist uses.
func (g *Gossip) dial(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	conn, err := g.wire.DialTimeout(addr.String(), g.opts.Timing.StreamTimeout)
	if err != nil {
		return nil, fmt.Errorf("measure round trip to %s: %w", addr, err)
	}
	return conn, nil
}

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"
)

const (
	// idlePerSource keeps well below the ephemeral ports one source address
	// has towards one destination.
	idlePerSource = 5000
	// idleSettle lets a proxy give back what serving the connections' first
	// requests took, before its memory is read; it is not a limit.
	idleSettle = 5 * time.Second
	// Goals of grayfed's, in bytes.
	idleEdgeGoal  = 40e6  // RssAnon of an edge that nobody is connected to
	idlePlainGoal = 100e6 // RssAnon that the idle connections add
	idleTLSGoal   = 400e6 // the same over TLS
)

// idleRow is one proxy of mode idle.
type idleRow struct {
	Name        string `json:"name"`
	Protocol    string `json:"protocol"`
	Connections int    `json:"connections"` // that answered, and were open at the end
	Before      memory `json:"before"`
	After       memory `json:"after"`
	Fault       string `json:"fault,omitempty"`
}

// idle is the mode of that name: what many idle keep-alive connections cost in
// memory, of each protocol. Each has had one request answered.
func (b *bench) idle(ctx context.Context, r *report) error {
	for _, speaks := range []protocol{{}, {TLS: true}, {TLS: true, HTTP2: true}} {
		nginx := func(ctx context.Context) (*proxy, error) { return b.startNginx(ctx, speaks, false) }
		grayfed := func(ctx context.Context) (*proxy, error) { return b.startGrayfed(ctx, speaks, false, plainRoutes()) }
		for _, c := range []contestant{
			{name: "nginx", peer: peerNginx, start: nginx},
			{name: "grayfed", peer: peerGrayfed, start: grayfed},
		} {
			if !b.settings.wants(c.peer) {
				continue
			}
			b.say("%s: opening %d connections of %s", c.name, b.settings.Idle, speaks)
			row, err := b.measureIdle(ctx, c)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			row.Name, row.Protocol = c.name, speaks.String()
			if err != nil {
				row.Fault = err.Error()
				b.say("%s: %v", c.name, err)
			}
			r.Idle = append(r.Idle, row)
			if c.peer == peerGrayfed && row.Fault == "" {
				goal := idlePlainGoal
				if speaks.TLS {
					goal = idleTLSGoal
				}
				r.judged(fmt.Sprintf("%d idle connections of %s, RssAnon more", row.Connections, speaks),
					float64(row.After.Anonymous-row.Before.Anonymous)/1e6, goal/1e6, "MB")
			}
		}
	}
	if !b.settings.wants(peerGrayfed) {
		return nil
	}
	return b.idleEdges(ctx, r)
}

// idleEdges measures the edges of a federation of three that nobody is
// connected to.
func (b *bench) idleEdges(ctx context.Context, r *report) (err error) {
	b.say("a federation of %d edges, idle", len(threeZones()))
	f, err := b.startFederation(ctx, threeZones(), releaseDocuments(plainRoutes()))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.end()) }()
	f.client.CloseIdleConnections()
	var most memory
	for _, m := range f.edges {
		used, err := b.settled(ctx, m.pid)
		if err != nil {
			return err
		}
		most.Anonymous, most.Resident = max(most.Anonymous, used.Anonymous), max(most.Resident, used.Resident)
	}
	if err := f.alive(); err != nil {
		return err
	}
	r.judged("idle edge of three, RssAnon of the largest", float64(most.Anonymous)/1e6, idleEdgeGoal/1e6, "MB")
	r.figure("idle edge of three, RSS of the largest", float64(most.Resident)/1e6, "MB")
	return nil
}

func (b *bench) measureIdle(ctx context.Context, c contestant) (r idleRow, err error) {
	p, err := c.start(ctx)
	if err != nil {
		return idleRow{}, err
	}
	defer func() {
		_, stopErr := p.discard()
		err = errors.Join(err, stopErr)
	}()
	check := func() error { return verify(ctx, p.entrance, pathPrefix+"42") }
	if err := waitFor(ctx, proxyReady, p.root, check); err != nil {
		return idleRow{}, err
	}
	before, err := b.settled(ctx, p.root.pid)
	if err != nil {
		return idleRow{}, err
	}
	r.Before = before

	conns := make([]net.Conn, 0, b.settings.Idle)
	defer func() {
		for _, conn := range conns {
			_ = conn.Close() // nothing is in flight on it
		}
	}()
	for len(conns) < b.settings.Idle {
		if ctx.Err() != nil {
			return r, ctx.Err()
		}
		conn, err := openIdle(ctx, p.entrance, len(conns))
		if err != nil {
			return r, fmt.Errorf("connection %d of %d: %w", len(conns)+1, b.settings.Idle, err)
		}
		conns = append(conns, conn)
	}
	if r.After, err = b.settled(ctx, p.root.pid); err != nil {
		return r, err
	}
	if err := p.root.alive(); err != nil {
		return r, err
	}
	for _, conn := range conns {
		open, err := stillOpen(conn)
		if err != nil {
			return r, err
		}
		if open {
			r.Connections++
		}
	}
	if lost := b.settings.Idle - r.Connections; lost > 0 {
		return r, fmt.Errorf("%d of %d idle connections were closed by the proxy", lost, b.settings.Idle)
	}
	return r, nil
}

// settled waits the settling time and reads memory.
func (b *bench) settled(ctx context.Context, pid int) (memory, error) {
	select {
	case <-ctx.Done():
		return memory{}, ctx.Err()
	case <-time.After(b.settle):
	}
	u, err := treeUsage("/proc", pid)
	return u.Memory, err
}

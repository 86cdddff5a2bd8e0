package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// idlePerSource keeps well below the ephemeral ports one source address
	// has towards one destination.
	idlePerSource = 5000
	// idleSettle lets a proxy give back what serving the connections' first
	// requests took, before its memory is read; it is not a limit.
	idleSettle = 5 * time.Second
	// Goals of grayfed's, in bytes.
	idleEdgeGoal        = 40e6  // RssAnon of an edge that nobody is connected to
	idleConnectionsGoal = 100e6 // RssAnon that the idle connections add
)

// idleRow is one proxy of mode idle.
type idleRow struct {
	Name        string `json:"name"`
	Connections int    `json:"connections"` // that answered, and were open at the end
	Before      memory `json:"before"`
	After       memory `json:"after"`
	Fault       string `json:"fault,omitempty"`
}

// idle is the mode of that name: what many idle keep-alive connections cost in
// memory. Each has had one request answered.
func (b *bench) idle(ctx context.Context, r *report) error {
	nginx := func(ctx context.Context) (*proxy, error) { return b.startNginx(ctx, false) }
	grayfed := func(ctx context.Context) (*proxy, error) { return b.startGrayfed(ctx, false, plainRoutes()) }
	for _, c := range []contestant{
		{name: "nginx", peer: peerNginx, start: nginx},
		{name: "grayfed", peer: peerGrayfed, start: grayfed},
	} {
		if !b.settings.wants(c.peer) {
			continue
		}
		b.say("%s: opening %d connections", c.name, b.settings.Idle)
		row, err := b.measureIdle(ctx, c)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		row.Name = c.name
		if err != nil {
			row.Fault = err.Error()
			b.say("%s: %v", c.name, err)
		}
		r.Idle = append(r.Idle, row)
		if c.peer == peerGrayfed && row.Fault == "" {
			r.judged(fmt.Sprintf("%d idle connections, RssAnon more", row.Connections),
				float64(row.After.Anonymous-row.Before.Anonymous)/1e6, idleConnectionsGoal/1e6, "MB")
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
	check := func() error { return verify(ctx, p.listen, pathPrefix+"42") }
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
		conn, err := openIdle(ctx, p.listen, len(conns))
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

// openIdle opens connection number n and has one request answered on it.
func openIdle(ctx context.Context, to netip.AddrPort, n int) (_ net.Conn, err error) {
	dialer := net.Dialer{
		Timeout:   5 * time.Second,
		LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+n/idlePerSource))},
		// The kernel then chooses the port at connect, by the whole four-tuple.
		Control: func(_, _ string, raw syscall.RawConn) error {
			var option error
			err := raw.Control(func(fd uintptr) {
				option = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
			})
			return errors.Join(err, option)
		},
	}
	conn, err := dialer.DialContext(ctx, "tcp4", to.String())
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = conn.Close() // its error would hide the first
		}
	}()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return nil, err
	}
	if _, err := fmt.Fprintf(conn, "GET %s%d HTTP/1.1\r\nHost: %s\r\n\r\n", pathPrefix, n, loadHost); err != nil {
		return nil, err
	}
	response, err := http.ReadResponse(bufio.NewReaderSize(conn, 2048), nil)
	if err != nil {
		return nil, fmt.Errorf("read the response: %w", err)
	}
	length, err := io.Copy(io.Discard, response.Body)
	if err = errors.Join(err, response.Body.Close()); err != nil {
		return nil, fmt.Errorf("read the body: %w", err)
	}
	if response.StatusCode != http.StatusOK || length != bodySize {
		return nil, fmt.Errorf("answered %s with %d bytes", response.Status, length)
	}
	return conn, conn.SetDeadline(time.Time{})
}

// stillOpen says whether the other side has kept an idle connection open.
func stillOpen(conn net.Conn) (bool, error) {
	tcp, ok := conn.(syscall.Conn)
	if !ok {
		return false, fmt.Errorf("look at a connection: a %T has no descriptor", conn)
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return false, fmt.Errorf("look at a connection: %w", err)
	}
	var peek error
	if err := raw.Control(func(fd uintptr) {
		_, _, peek = unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_PEEK|unix.MSG_DONTWAIT)
	}); err != nil {
		return false, fmt.Errorf("look at a connection: %w", err)
	}
	return errors.Is(peek, unix.EAGAIN), nil
}

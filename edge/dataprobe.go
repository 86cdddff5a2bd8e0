package edge

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/grayfed/grayfed/failover"
)

// maxProbes bounds the probes of other edges under way at once.
const maxProbes = 64

// probeTarget is another edge's data listener.
type probeTarget struct {
	edge    string
	address string // host:port
	tls     bool
}

// dataProbes asks the data listeners of the other edges, at each heartbeat over
// a connection of its own, for a sign of life. Its methods but look are for one
// goroutine.
type dataProbes struct {
	timeout time.Duration
	misses  int // in a row make an edge dead
	known   map[string]*probed
	missed  atomic.Uint64 // probes without an answer; read by metrics
}

// probed is how the probes of one edge went.
type probed struct {
	address string
	verdict failover.Verdict
	missed  int // in a row
	err     error
}

func newDataProbes(timeout time.Duration, misses int) *dataProbes {
	return &dataProbes{timeout: timeout, misses: misses, known: make(map[string]*probed)}
}

// verdict is what the probes say of an edge.
func (p *dataProbes) verdict(edge string) failover.Verdict {
	if k := p.known[edge]; k != nil {
		return k.verdict
	}
	return failover.VerdictUnknown
}

// look probes all targets at once and returns what each came to. It keeps
// nothing, and ends within the timeout.
func (p *dataProbes) look(ctx context.Context, targets []probeTarget) map[probeTarget]error {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	var mu sync.Mutex
	results := make(map[probeTarget]error, len(targets))
	free := make(chan struct{}, maxProbes)
	var running sync.WaitGroup
	for _, target := range targets {
		running.Go(func() {
			free <- struct{}{}
			err := ping(ctx, target)
			<-free
			mu.Lock()
			defer mu.Unlock()
			results[target] = err
		})
	}
	running.Wait()
	return results
}

// take folds in what look returned, and forgets edges that were not probed. An
// edge that answers is alive at once; one that does not is dead after some
// misses in a row.
func (p *dataProbes) take(results map[probeTarget]error) {
	known := make(map[string]*probed, len(results))
	for target, err := range results {
		k := p.known[target.edge]
		if k == nil || k.address != target.address {
			k = &probed{address: target.address}
		}
		known[target.edge] = k
		k.err = err
		if err == nil {
			k.verdict, k.missed = failover.Alive, 0
			continue
		}
		p.missed.Add(1)
		if k.missed++; k.missed >= p.misses {
			k.verdict = failover.Dead
		}
	}
	p.known = known
}

const pingRequest = "OPTIONS * HTTP/1.1\r\nHost: grayfed\r\nConnection: close\r\n\r\n"

// ping is nil when the process behind a data listener did anything at all once
// the connection was there: a frozen one does not, though its system completes
// connections. One that turns the prober away unheard, as where a PROXY header
// or a client's certificate is due, has shown that it lives, too. Its own
// certificate is not looked at: whether clients trust it is not what kills an
// edge.
func ping(ctx context.Context, target probeTarget) error {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", target.address)
	if err != nil {
		return fmt.Errorf("probe edge %s: %w", target.edge, err)
	}
	defer func() { _ = conn.Close() }() // nothing is written that could be lost
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	stream := conn
	if target.tls {
		stream = tls.Client(conn, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12})
	}
	_, err = io.WriteString(stream, pingRequest)
	var line []byte
	if err == nil {
		line, err = bufio.NewReaderSize(stream, 64).ReadSlice(' ')
	}
	var failure syscall.Errno
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("probe edge %s: no answer from %s: %w", target.edge, target.address, ctx.Err())
	case err == nil && bytes.HasPrefix(line, []byte("HTTP/1.")):
		return nil
	case err == nil, errors.Is(err, bufio.ErrBufferFull):
		return fmt.Errorf("probe edge %s: what answers at %s is no edge", target.edge, target.address)
	case errors.As(err, &failure) && failure != syscall.ECONNRESET && failure != syscall.EPIPE:
		return fmt.Errorf("probe edge %s: %w", target.edge, err) // the network's doing
	}
	return nil
}

package http2

import (
	"errors"
	"io"
	"sync"

	"github.com/grayfed/grayfed/edge/exchange"
)

// requestBody is a request's body as the transport pulls it, perhaps on a
// goroutine of its own while the response is written already.
type requestBody struct {
	ss *serverStream

	mu         sync.Mutex
	asked      bool // mu; 100 (Continue) was sent or is not to be sent any more
	responding bool // mu; the final response has begun
}

var (
	_ exchange.Body        = (*requestBody)(nil)
	_ exchange.Interrupter = (*requestBody)(nil)
)

func (b *requestBody) start() {
	b.asked = !b.ss.exchange.Request.ExpectContinue
	b.responding = false
}

// Next implements [exchange.Body].
func (b *requestBody) Next() ([]byte, error) {
	b.ask()
	ss := b.ss
	idle := ss.exchange.Timeouts.Body
	if idle == 0 {
		idle = ss.conn.srv.options.BodyTimeout
	}
	piece, err := ss.pull(idle, 0)
	ss.exchange.RequestBytes += int64(len(piece))
	if err == nil || errors.Is(err, io.EOF) {
		return piece, err
	}
	return nil, ss.requestFailed(err)
}

// ask sends 100 (Continue) to a client that waits for it.
func (b *requestBody) ask() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.asked {
		return
	}
	b.asked = true
	if !b.responding && b.ss.waits() {
		_ = b.ss.interim(100, nil) // a stream that is over shows by the pull
	}
}

// respond notes that the final response begins: it is too late for 100.
func (b *requestBody) respond() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.responding = true
}

// Buffered implements [exchange.Body].
func (b *requestBody) Buffered() ([]byte, bool) { return b.ss.buffered() }

// Trailer implements [exchange.Body].
func (b *requestBody) Trailer() *exchange.Fields {
	b.ss.l.mu.Lock()
	defer b.ss.l.mu.Unlock()
	if !b.ss.peerEnded || b.ss.trailer.Len() == 0 {
		return nil
	}
	return &b.ss.trailer
}

// Close implements [exchange.Body].
func (b *requestBody) Close() error { return nil }

// Interrupt makes a pull that waits fail; who abandons an upload calls it.
func (b *requestBody) Interrupt() { b.ss.stopReading() }

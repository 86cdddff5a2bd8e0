package edge

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/grayfed/grayfed/edge/config"
	"github.com/grayfed/grayfed/federation"
)

// hostile is an edge under attack, with an origin behind it that is ejected by
// the first failure that is held against it.
type hostile struct {
	*whole
	origin *rawOrigin
}

const hostileDocuments = `
- { id: hostile, path: "/hostile/**", upstream: hostile }
- { id: smuggled, path: /smuggled, upstream: hostile }
`

func newHostile(t testing.TB) *hostile {
	t.Helper()
	w := startWhole(t, hostileDocuments, func(p *config.Process) {
		p.Listen.Timeouts.Head, p.Listen.Timeouts.Body = 300*time.Millisecond, 300*time.Millisecond
		p.Health.Ejection.GatewayFailures, p.Health.Ejection.ConnectFailures = 1, 1
		p.Health.Probe.Timeout = patience
	})
	h := &hostile{whole: w, origin: newRawOrigin(t)}
	h.register("hostile", "", h.origin.listener.Addr().String(), federation.HTTP1)
	return h
}

// dial connects to a listener, speaking protocol by ALPN where there is TLS.
func (h *hostile) dial(secure bool, protocol string) net.Conn {
	h.t.Helper()
	address := h.plain
	if secure {
		address = h.secure
	}
	nc, err := net.Dial("tcp", address)
	if err != nil {
		h.t.Fatal(err)
	}
	if err := nc.SetDeadline(time.Now().Add(patience)); err != nil {
		h.t.Fatal(err)
	}
	if secure {
		nc = tls.Client(nc, &tls.Config{RootCAs: h.ca.pool, ServerName: "localhost", NextProtos: []string{protocol}})
	}
	return nc
}

// send writes bytes over HTTP/1 and returns the statuses that come back until
// the edge closes the connection.
func (h *hostile) send(secure bool, text string) (statuses []int) {
	h.t.Helper()
	nc := h.dial(secure, "http/1.1")
	defer func() { _ = nc.Close() }()
	if _, err := io.WriteString(nc, text); err != nil {
		h.t.Fatal(err)
	}
	return h.statuses(nc)
}

func (h *hostile) statuses(nc net.Conn) (statuses []int) {
	h.t.Helper()
	r := bufio.NewReader(nc)
	for {
		response, err := http.ReadResponse(r, nil)
		if err != nil {
			if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
				h.t.Errorf("the connection stays open after %d", statuses)
			}
			return statuses
		}
		statuses = append(statuses, response.StatusCode)
		_, _ = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
	}
}

// bystander makes requests until stop is called, at least one, over one
// connection; none of them may fail.
func (h *hostile) bystander() (stop func()) {
	client := h.client(func(p *http.Protocols) { p.SetHTTP1(true) })
	client.Timeout = patience
	var running sync.WaitGroup
	var stopped atomic.Bool
	running.Go(func() {
		for again := true; again; again = !stopped.Load() {
			if err := h.beside(h.t.Context(), client); err != nil {
				h.t.Errorf("a bystander: %v", err)
				return
			}
		}
	})
	return func() {
		stopped.Store(true)
		running.Wait()
	}
}

func (h *hostile) beside(ctx context.Context, client *http.Client) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, h.url("/hostile/bystander"), http.NoBody)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if body, err := io.ReadAll(response.Body); err != nil || string(body) != "ok" || response.StatusCode != http.StatusOK {
		return errors.Join(err, errors.New(response.Status+" "+string(body)))
	}
	return nil
}

// heap is what is alive on it. Whatever is allocated while garbage is looked for
// counts as alive, so that it is looked for twice, and nobody else should be busy.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

// raw2 is a client of HTTP/2 that says what it is told to.
type raw2 struct {
	nc     net.Conn
	framer *http2.Framer
	block  bytes.Buffer
	enc    *hpack.Encoder
	dec    *hpack.Decoder
}

func (h *hostile) dial2(secure bool) *raw2 {
	h.t.Helper()
	nc := h.dial(secure, "h2")
	c := &raw2{nc: nc, framer: http2.NewFramer(nc, nc)}
	c.framer.AllowIllegalWrites, c.framer.AllowIllegalReads = true, true
	c.enc, c.dec = hpack.NewEncoder(&c.block), hpack.NewDecoder(4096, nil)
	if _, err := io.WriteString(nc, http2.ClientPreface); err != nil {
		h.t.Fatal(err)
	}
	if err := c.framer.WriteSettings(); err != nil {
		h.t.Fatal(err)
	}
	return c
}

func (c *raw2) encode(pairs ...string) []byte {
	c.block.Reset()
	for n := 0; n < len(pairs); n += 2 {
		_ = c.enc.WriteField(hpack.HeaderField{Name: pairs[n], Value: pairs[n+1]}) // a buffer takes everything
	}
	return bytes.Clone(c.block.Bytes())
}

// headers begins a stream.
func (c *raw2) headers(id uint32, end bool, pairs ...string) error {
	return c.framer.WriteHeaders(http2.HeadersFrameParam{
		StreamID: id, EndStream: end, EndHeaders: true, BlockFragment: c.encode(pairs...),
	})
}

// outcome is how a stream ended: its status, and the code of its reset or of the
// connection's end.
type outcome struct {
	status string
	code   http2.ErrCode
	reset  bool
	closed bool
}

// outcome reads until a stream has ended.
func (c *raw2) outcome(id uint32) (got outcome, err error) {
	for {
		frame, err := c.framer.ReadFrame()
		if err != nil {
			if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
				return got, err
			}
			got.closed = true
			return got, nil
		}
		switch frame := frame.(type) {
		case *http2.HeadersFrame:
			fields, err := c.dec.DecodeFull(frame.HeaderBlockFragment())
			if err != nil {
				return got, err
			}
			if frame.StreamID == id && len(fields) > 0 && fields[0].Name == ":status" {
				got.status = fields[0].Value
			}
		case *http2.RSTStreamFrame:
			if frame.StreamID == id {
				got.reset, got.code = true, frame.ErrCode
				return got, nil
			}
		case *http2.GoAwayFrame:
			got.code = frame.ErrCode
		}
		if h := frame.Header(); h.StreamID == id && h.Type <= http2.FrameHeaders && h.Flags.Has(http2.FlagDataEndStream) {
			return got, nil
		}
	}
}

// allocated is all that was ever allocated.
func allocated() uint64 {
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.TotalAlloc
}

// compress writes a gRPC message: zeros, as gzip.
func compress(to *bytes.Buffer, size int) error {
	to.Write([]byte{1, 0, 0, 0, 0})
	w := gzip.NewWriter(to)
	zeros := make([]byte, 1<<16)
	for ; size > 0; size -= len(zeros) {
		if _, err := w.Write(zeros); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	binary.BigEndian.PutUint32(to.Bytes()[1:], uint32(to.Len()-5))
	return nil
}

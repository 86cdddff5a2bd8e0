package edge

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/grayfed/grayfed/federation"
)

// attack is what a client without manners does. It returns what it left open,
// with the memory that this takes still taken.
type attack struct {
	name string
	run  func(*hostile) (open []net.Conn)
	// answer begins what HTTP/1 is answered with, before the edge closes what the
	// attack left open.
	answer string
	stays  bool // the connection is still good
}

var attacks = []attack{
	{"rapid reset", (*hostile).rapidReset, "", false},
	{"CONTINUATION flood", (*hostile).continuations, "", false},
	{"SETTINGS flood", frames(http2.FrameSettings, 0, nil), "", false},
	{"PING flood", frames(http2.FramePing, 0, make([]byte, 8)), "", false},
	{"PRIORITY flood", frames(http2.FramePriority, 3, make([]byte, 5)), "", false},
	{"empty DATA flood", frames(http2.FrameData, 1, nil), "", false},
	{"slow heads", (*hostile).slowHeads, "HTTP/1.1 408", false},
	{"slow bodies", (*hostile).slowBodies, "HTTP/1.1 408", false},
	{"slow handshakes", (*hostile).slowHandshakes, "", false},
	{"header bombs", (*hostile).headerBombs, "HTTP/1.1 408", false},
	{"compressed header bombs", (*hostile).tableBombs, "", true},
}

// several is how many connections an attack uses that holds some.
const several = 100

// rapidReset opens streams and resets them at once (CVE-2023-44487).
func (h *hostile) rapidReset() []net.Conn {
	c := h.dial2(false)
	var out bytes.Buffer
	framer := http2.NewFramer(&out, nil)
	_, _ = c.nc.Write(frame(http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream, 1, c.encode(usual()...)))
	block := c.encode(usual()...)
	for id := uint32(3); id < 20_000; id += 2 {
		out.Reset()
		_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndHeaders: true, EndStream: true})
		_ = framer.WriteRSTStream(id, http2.ErrCodeCancel)
		if _, err := c.nc.Write(out.Bytes()); err != nil {
			break // it was ended
		}
	}
	return []net.Conn{c.nc}
}

func usual() []string {
	return []string{":method", "GET", ":scheme", "http", ":authority", "a.test", ":path", "/hostile/flood"}
}

func frame(kind http2.FrameType, flags http2.Flags, stream uint32, payload []byte) []byte {
	n := len(payload)
	return append([]byte{
		byte(n >> 16), byte(n >> 8), byte(n), byte(kind), byte(flags),
		byte(stream >> 24), byte(stream >> 16), byte(stream >> 8), byte(stream),
	}, payload...)
}

// pour writes a chunk over and over until the edge has had enough.
func pour(nc net.Conn, chunk []byte) {
	for range 10_000 {
		if _, err := nc.Write(chunk); err != nil {
			return
		}
	}
}

// frames floods with one kind of frame beside an open stream.
func frames(kind http2.FrameType, stream uint32, payload []byte) func(*hostile) []net.Conn {
	return func(h *hostile) []net.Conn {
		c := h.dial2(false)
		fields := usual()
		fields[1] = http.MethodPost
		if c.headers(1, false, fields...) == nil {
			pour(c.nc, bytes.Repeat(frame(kind, 0, stream, payload), 100))
		}
		return []net.Conn{c.nc}
	}
}

// continuations begins a header section that has no end (CVE-2024-27316).
func (h *hostile) continuations() []net.Conn {
	c := h.dial2(false)
	_, _ = c.nc.Write(frame(http2.FrameHeaders, 0, 1, c.encode(usual()...)))
	pour(c.nc, frame(http2.FrameContinuation, 0, 1, bytes.Repeat([]byte{0, 1, 'a', 1, 'b'}, 3000)))
	return []net.Conn{c.nc}
}

func (h *hostile) open(secure bool, text string) (open []net.Conn) {
	for range several {
		nc := h.dial(secure, "http/1.1")
		_, _ = io.WriteString(nc, text) // the edge may have had enough already
		open = append(open, nc)
	}
	return open
}

// slowHeads sends heads a byte at a time, which must not prolong them.
func (h *hostile) slowHeads() []net.Conn {
	open := h.open(false, "GET /hostile/flood HTTP/1.1\r\nHost: a.test\r\n")
	var sending sync.WaitGroup
	for _, nc := range open[:several/5] {
		sending.Go(func() {
			for range 1000 {
				if _, err := io.WriteString(nc, "A: b\r\n"); err != nil {
					return
				}
				time.Sleep(20 * time.Millisecond) // what the attack is
			}
		})
	}
	sending.Wait()
	return open
}

func (h *hostile) slowBodies() []net.Conn {
	return h.open(false, "POST /hostile/flood HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1000\r\n\r\nx")
}

func (h *hostile) slowHandshakes() (open []net.Conn) {
	for range several {
		nc, err := net.Dial("tcp", h.secure)
		if err != nil {
			h.t.Fatal(err)
		}
		_ = nc.SetDeadline(time.Now().Add(patience))
		_, _ = nc.Write([]byte{0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3}) // the beginning of a ClientHello
		open = append(open, nc)
	}
	return open
}

func (h *hostile) headerBombs() []net.Conn {
	return h.open(false, "GET /hostile/flood HTTP/1.1\r\nHost: a.test\r\n"+strings.Repeat("A: "+strings.Repeat("b", 7<<10)+"\r\n", 9))
}

// tableBombs name one large entry of the table again and again.
func (h *hostile) tableBombs() (open []net.Conn) {
	for range several {
		c := h.dial2(false)
		block := c.encode(append(usual(), "a", strings.Repeat("b", 3900))...)
		block = append(block, bytes.Repeat([]byte{0x80 | 62}, 8_000)...)
		_, _ = c.nc.Write(frame(http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream, 1, block))
		if got, err := c.outcome(1); err != nil || !got.closed && !got.reset && !strings.HasPrefix(got.status, "4") {
			h.t.Errorf("a bomb got %+v, %v", got, err)
		}
		open = append(open, c.nc)
	}
	return open
}

// TestFloods attacks, and looks what it cost: the origin got no request that was
// not sent, what the attack left open is closed, memory is bounded, bystanders
// are served, and nobody holds it against the endpoint.
func TestFloods(t *testing.T) {
	h := newHostile(t)
	for _, a := range attacks {
		t.Run(a.name, func(t *testing.T) {
			before := heap()
			stop := h.bystander()
			defer func() { stop() }()
			open := a.run(h)
			stop() // what it allocates is none of the attack's
			// A head may be 64 KiB, and its fields are kept beside it.
			if grown := heap() - before; grown > several*160<<10 {
				t.Errorf("%d bytes are held", grown)
			}
			stop = h.bystander()
			for _, nc := range open {
				if !a.stays {
					expectEnded(t, nc, a.answer)
				}
				_ = nc.Close()
			}
			stop()
			for _, arrived := range h.origin.take() {
				if !arrived.forwarded || !slices.Contains([]string{"GET /hostile/flood", "POST /hostile/flood"}, arrived.line) {
					t.Errorf("the origin received %+v", arrived)
				}
			}
			h.expectUnmoved("hostile")
		})
	}
}

// expectEnded requires that the edge closes a connection, after an answer that
// begins so.
func expectEnded(t *testing.T, nc net.Conn, answer string) {
	t.Helper()
	text, err := io.ReadAll(nc)
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		t.Errorf("%v: it is still open", nc.LocalAddr())
	}
	if len(text) > 0 && !strings.HasPrefix(string(text), answer) {
		t.Errorf("answered with %.60q", text)
	}
}

// TestCompressedMessagesPass has a gRPC message that would be a thousand times as
// large: the edge hands on what it got, and never looks inside.
func TestCompressedMessagesPass(t *testing.T) {
	w := startWhole(t, `[{ id: bomb, path: "/**", upstream: bomb }]`, nil)
	const size = 64 << 20
	var message bytes.Buffer
	if err := compress(&message, size); err != nil {
		t.Fatal(err)
	}
	got := make(chan string, 1)
	address := w.ca.serve(t, federation.H2C, func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		got <- fmt.Sprintf("%s %v %v", r.Header.Get("Grpc-Encoding"), bytes.Equal(body, message.Bytes()), err)
		rw.Header().Set("Content-Type", "application/grpc")
		rw.Header().Set("Grpc-Encoding", "gzip")
		rw.Header().Set("Trailer", "grpc-status")
		_, _ = rw.Write(body)
		rw.Header().Set("Grpc-Status", "0")
	})
	w.register("bomb", "", address, federation.H2C)
	client := w.client(func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) })
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.url("/bomb/a"), bytes.NewReader(message.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/grpc")
	request.Header.Set("Te", "trailers")
	request.Header.Set("Grpc-Encoding", "gzip")
	request.Header.Set("Accept-Encoding", "identity") // or net/http unpacks
	before := allocated()
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	back, err := io.ReadAll(response.Body)
	if err != nil || !bytes.Equal(back, message.Bytes()) || response.Header.Get("Grpc-Encoding") != "gzip" || response.Trailer.Get("Grpc-Status") != "0" {
		t.Errorf("%d bytes came back of %d, %v, %v", len(back), message.Len(), response.Trailer, err)
	}
	if arrived := <-got; arrived != "gzip true <nil>" {
		t.Errorf("arrived: %s", arrived)
	}
	if grown := allocated() - before; grown > size/4 {
		t.Errorf("%d bytes were allocated for it", grown)
	}
}

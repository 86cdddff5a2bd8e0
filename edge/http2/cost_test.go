//go:build !race

package http2

import (
	"encoding/binary"
	"io"
	"testing"

	"golang.org/x/net/http2"
)

// cheap is a client that costs nothing: it sends the same request again and
// again and reads frames up to the end of each response.
type cheap struct {
	raw   *raw
	frame []byte
	more  []byte // window for the next responses
	id    uint32
	in    [64 << 10]byte
}

func newCheap(t testing.TB, address string) *cheap {
	c := &cheap{raw: dialRaw(t, address), id: 1}
	c.raw.headers(1, true, get("user-agent", "cheap", "x-request-id", "0123456789abcdef")...)
	if got := c.raw.response(1); got.status != "200" {
		t.Fatalf("got %+v", got)
	}
	c.frame = appendHeaderBlock(nil, c.raw.encode(get("user-agent", "cheap", "x-request-id", "0123456789abcdef")...), 1, true, maxFrame)
	c.more = appendWindowUpdate(nil, 0, 32<<10)
	return c
}

func (c *cheap) do(t testing.TB) {
	c.id += 2
	if c.id%1024 == 1 {
		if _, err := c.raw.nc.Write(c.more); err != nil {
			t.Fatal(err)
		}
	}
	binary.BigEndian.PutUint32(c.frame[5:], c.id)
	if _, err := c.raw.nc.Write(c.frame); err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := io.ReadFull(c.raw.nc, c.in[:frameHeaderLen]); err != nil {
			t.Fatal(err)
		}
		h := parseFrameHeader(c.in[:])
		if _, err := io.ReadFull(c.raw.nc, c.in[:h.length]); err != nil {
			t.Fatal(err)
		}
		if h.stream == c.id && h.flags.Has(http2.FlagDataEndStream) && (h.kind == http2.FrameData || h.kind == http2.FrameHeaders) {
			return
		}
	}
}

// TestRequestsDoNotAllocate holds the steady state of requests whose fields
// HPACK's table holds, through a server and through a gateway in front of it.
func TestRequestsDoNotAllocate(t *testing.T) {
	origin := newRig(t, Options{Handler: newReuse()})
	gateway := newProxy(t, &proxy{}, TransportOptions{Address: origin.address})
	for _, c := range []struct {
		name, address string
		most          float64
	}{
		{"server", origin.address, 0},
		// The decoders of the endpoint and of the transport, whose peers index
		// nothing, make a string of each name and value that is in no static
		// table: four of the request, three of the response.
		{"gateway", gateway.address, 7},
	} {
		client := newCheap(t, c.address)
		for range 200 {
			client.do(t)
		}
		if n := testing.AllocsPerRun(2000, func() { client.do(t) }); n > c.most {
			t.Errorf("%s: %v allocations a request", c.name, n)
		}
	}
}

func BenchmarkServer(b *testing.B) {
	client := newCheap(b, newRig(b, Options{Handler: newReuse()}).address)
	b.ReportAllocs()
	for b.Loop() {
		client.do(b)
	}
}

func BenchmarkGateway(b *testing.B) {
	origin := newRig(b, Options{Handler: newReuse()})
	client := newCheap(b, newProxy(b, &proxy{}, TransportOptions{Address: origin.address}).address)
	b.ReportAllocs()
	for b.Loop() {
		client.do(b)
	}
}

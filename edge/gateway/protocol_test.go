package gateway

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/grayfed/grayfed/edge/exchange"
	"github.com/grayfed/grayfed/federation"
)

// frames is a second protocol, as little as one can be: both sides are in this
// process and pass pieces by calls, no byte of HTTP/1 anywhere. It shows that
// gateway and codec know nothing of what an endpoint speaks.
type frames struct {
	got chan string // the request's body and its trailer
}

func (f *frames) RoundTrip(x *exchange.Exchange) error {
	req, resp := &x.Request, &x.Response
	if req.Upgrade != "" {
		near, far := net.Pipe()
		go func() { // the endpoint: an echo in upper case
			defer far.Close()
			buf := make([]byte, 64)
			for {
				n, err := far.Read(buf)
				if err != nil {
					return
				}
				if _, err := far.Write([]byte(strings.ToUpper(string(buf[:n])))); err != nil {
					return
				}
			}
		}()
		resp.Status, resp.Upgrade, resp.Tunnel, resp.ContentLength = 101, req.Upgrade, &pipe{Conn: near}, -1
		return nil
	}
	if x.Interim != nil {
		var hints exchange.Fields
		hints.Add("Link", "</style.css>; rel=preload")
		if err := x.Interim.WriteInterim(103, &hints); err != nil {
			return &exchange.Error{Phase: exchange.PhaseAwait, Fault: exchange.FaultClient, Wrote: true, Err: err}
		}
	}
	if req.Body != nil {
		got := ""
		for {
			piece, err := req.Body.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return err
			}
			got += string(piece)
		}
		if trailer := req.Body.Trailer(); trailer != nil {
			checksum, _ := trailer.GetName("checksum")
			got += " " + checksum
		}
		f.got <- got
	}
	resp.Status, resp.ContentLength = 200, -1
	resp.Header.Add("grpc-encoding", "identity")
	body := &pieces{left: []string{"one ", "two ", "three"}}
	body.trailer.Add("grpc-status", "0")
	resp.Body = body
	return nil
}

func (f *frames) Close() error { return nil }

// pieces is a body with a trailer.
type pieces struct {
	left    []string
	trailer exchange.Fields
}

func (p *pieces) Next() ([]byte, error) {
	if len(p.left) == 0 {
		return nil, io.EOF
	}
	piece := p.left[0]
	p.left = p.left[1:]
	return []byte(piece), nil
}

func (p *pieces) Buffered() ([]byte, bool)  { return nil, false }
func (p *pieces) Trailer() *exchange.Fields { return &p.trailer }
func (p *pieces) Close() error              { return nil }

// pipe ends as a whole: net.Pipe has no half.
type pipe struct{ net.Conn }

func (p *pipe) CloseWrite() error { return p.Close() }

func (p *pipe) Read(b []byte) (int, error) {
	n, err := p.Conn.Read(b)
	if errors.Is(err, io.ErrClosedPipe) {
		err = io.EOF
	}
	return n, err
}

func TestAnotherProtocol(t *testing.T) {
	upstream := &frames{got: make(chan string, 1)}
	r := newRig(t, func(o *Options) {
		o.NewTransport = func(*federation.Instance) (Upstream, error) { return upstream, nil }
	})
	r.configure(usersConfig(federation.Strict))
	r.register(instance("v1-a", "az1", "v1", "10.0.0.1:80"))

	c := r.dial()
	c.send("POST /users/1 HTTP/1.1\r\nHost: users.test\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\nConnection: TE\r\nx-gray-explain: 1\r\n\r\n" +
		"3\r\nabc\r\n2\r\nde\r\n0\r\nchecksum: 42\r\n\r\n")
	interim, err := http.ReadResponse(c.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer interim.Body.Close()
	if interim.StatusCode != http.StatusEarlyHints || interim.Header.Get("Link") == "" {
		t.Fatalf("interim %+v", interim)
	}
	response, err := http.ReadResponse(c.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(response.Body)
	_ = response.Body.Close()
	if err != nil || string(body) != "one two three" || response.Trailer.Get("grpc-status") != "0" {
		t.Errorf("body %q, trailer %v, %v", body, response.Trailer, err)
	}
	if response.Header.Get("grpc-encoding") != "identity" || !strings.Contains(response.Header.Get("x-gray-decision"), "instance=v1-a") {
		t.Errorf("header %v", response.Header)
	}
	if sent := <-upstream.got; sent != "abcde 42" {
		t.Errorf("the endpoint got %q", sent)
	}

	// The same connection switches protocols.
	c.send("GET /chat HTTP/1.1\r\nHost: users.test\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n")
	switched, err := http.ReadResponse(c.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer switched.Body.Close()
	if switched.StatusCode != http.StatusSwitchingProtocols || switched.Header.Get("Upgrade") != "chat" {
		t.Fatalf("%+v", switched)
	}
	if n := r.endpoint("v1-a").InFlight(); n != 1 {
		t.Errorf("%d in flight with an open tunnel", n)
	}
	c.send("hello")
	echo := make([]byte, 5)
	if _, err := io.ReadFull(c.r, echo); err != nil || string(echo) != "HELLO" {
		t.Fatalf("%q, %v", echo, err)
	}
	_ = c.Close()
	r.settled()
}

// The same tunnel over the usual protocol, and what an endpoint may answer
// instead of switching.
func TestTunnel(t *testing.T) {
	r := newRig(t, nil)
	r.configure(usersConfig(federation.Strict))
	r.stage(place{"v1-a", "az1", "v1", func(_ *origin, nc net.Conn, head string) bool {
		if field(head, "Upgrade") == "" {
			_, err := io.WriteString(nc, "HTTP/1.1 426 Upgrade Required\r\nUpgrade: chat\r\nContent-Length: 0\r\n\r\n")
			return err == nil
		}
		_, _ = io.WriteString(nc, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n")
		_, _ = io.Copy(nc, bufio.NewReader(nc))
		return false
	}})
	c := r.dial()
	c.ask("GET", "/chat").expect(t, 426, "")
	c.send("GET /chat HTTP/1.1\r\nHost: users.test\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\nearly")
	response, err := http.ReadResponse(c.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%+v", response)
	}
	echo := make([]byte, 5)
	if _, err := io.ReadFull(c.r, echo); err != nil || string(echo) != "early" {
		t.Fatalf("%q, %v", echo, err)
	}
	_ = c.Close()
	r.settled()
}

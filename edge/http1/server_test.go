package http1

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/grayfed/grayfed/edge/exchange"
)

func TestPipeliningIsAnsweredInOrder(t *testing.T) {
	c := newRig(t, Options{Handler: handlerFunc(echo)}).dial()
	const rounds = 200
	var all strings.Builder
	for i := range rounds {
		fmt.Fprintf(&all, "GET /%d/a HTTP/1.1\r\nHost: a.test\r\n\r\n", i)
		fmt.Fprintf(&all, "POST /%d/b HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc", i)
		fmt.Fprintf(&all, "POST /%d/c HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nxy\r\n0\r\n\r\n", i)
	}
	sent := make(chan error, 1)
	go func() {
		_, err := io.WriteString(c.Conn, all.String())
		sent <- err
	}()
	for i := range rounds {
		for _, want := range []string{"GET /%d/a ", "POST /%d/b abc", "POST /%d/c xy"} {
			if response := c.receive(http.MethodGet); response.body != fmt.Sprintf(want, i) {
				t.Fatalf("round %d: %+v, want %s", i, response, want)
			}
		}
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
}

func TestKeepAlive(t *testing.T) {
	for _, test := range []struct {
		version, connection string
		closes              bool
		says                string
	}{
		{"1.1", "", false, ""},
		{"1.1", "keep-alive", false, ""},
		{"1.1", "close", true, ""},
		{"1.1", "CLOSE", true, ""},
		{"1.1", "x-other, Close", true, ""},
		{"1.1", "keep-alive, close", true, ""},
		{"1.1", "closed", false, ""},
		{"1.0", "", true, ""},
		{"1.0", "keep-alive", false, "keep-alive"},
		{"1.0", "Keep-Alive", false, "keep-alive"},
		{"1.0", "keep-alive, close", true, ""},
	} {
		rig := newRig(t, Options{Handler: handlerFunc(echo)})
		for _, ahead := range []bool{false, true} {
			c := rig.dial()
			request := "GET /1 HTTP/" + test.version + "\r\nHost: a.test\r\n"
			if test.connection != "" {
				request += "Connection: " + test.connection + "\r\n"
			}
			request += "\r\n"
			if ahead {
				request += request
			}
			c.send(request)
			response := c.receive(http.MethodGet)
			if got := response.header.Get("Connection"); response.status != 200 || response.closes != test.closes || got != test.says {
				t.Errorf("%+v: %d, Connection: %q, closes %t", test, response.status, got, response.closes)
			}
			switch {
			case test.closes:
				// Also what was sent ahead must not make it a reset.
				if rest := c.ended(); rest != "" {
					t.Errorf("%+v: %q after the last response", test, rest)
				}
			case ahead:
				c.receive(http.MethodGet)
			default:
				c.send(request)
				c.receive(http.MethodGet)
			}
			_ = c.Close()
		}
	}
}

func TestExpectContinue(t *testing.T) {
	const expecting = "POST /e HTTP/1.1\r\nHost: a.test\r\nExpect: 100-Continue\r\nContent-Length: 5\r\n\r\n"
	pulls := make(chan struct{})
	rig := newRig(t, Options{Handler: handlerFunc(func(x *exchange.Exchange) {
		switch x.Request.Path {
		case "/refused":
			respondWith(x, 413, "no")
			return
		case "/twice":
			if _, err := x.Request.Body.Next(); err != nil {
				t.Error(err)
			}
			pulls <- struct{}{}
		}
		echo(x)
	})})
	read := func(c *client, want string) {
		t.Helper()
		got := make([]byte, len(want))
		if _, err := io.ReadFull(c.r, got); err != nil || string(got) != want {
			t.Fatalf("%q, %v, want %q", got, err, want)
		}
	}

	c := rig.dial() // waits, twice on one connection
	for range 2 {
		c.send(expecting)
		read(c, "HTTP/1.1 100 Continue\r\n\r\nHTTP"[:25])
		c.send("hello")
		if response := c.receive(http.MethodPost); response.body != "POST /e hello" || response.closes {
			t.Errorf("%+v", response)
		}
	}
	c.send(strings.Replace(expecting, "/e", "/twice", 1)) // is asked once, however often the body is pulled
	read(c, "HTTP/1.1 100 Continue\r\n\r\n")
	c.send("he")
	<-pulls
	time.Sleep(time.Millisecond) // for what must not happen
	c.send("llo")
	read(c, "HTTP/1.1 200")
	_ = c.Close()
	c = rig.dial()
	c.send(expecting + "hello") // does not wait, gets no 100
	read(c, "HTTP/1.1 200")
	_ = c.Close()

	c = rig.dial() // is refused before it sends: no 100, and no other request can follow
	c.send(strings.Replace(expecting, "/e", "/refused", 1))
	if response := c.receive(http.MethodPost); response.status != 413 || !response.closes {
		t.Errorf("%+v", response)
	}
	if rest := c.ended(); rest != "" {
		t.Errorf("%q after the refusal", rest)
	}

	c = rig.dial() // HTTP/1.0 knows no 100
	c.send(strings.Replace(expecting, "HTTP/1.1", "HTTP/1.0", 1) + "hello")
	read(c, "HTTP/1.1 200")
}

func TestHeadIsAnsweredWithoutBody(t *testing.T) {
	c := newRig(t, Options{Handler: handlerFunc(echo)}).dial()
	c.send("HEAD /a HTTP/1.1\r\nHost: a.test\r\n\r\nGET /b HTTP/1.1\r\nHost: a.test\r\n\r\n")
	if response := c.receive(http.MethodHead); response.length != int64(len("HEAD /a ")) || response.body != "" {
		t.Errorf("%+v", response)
	}
	if response := c.receive(http.MethodGet); response.body != "GET /b " {
		t.Errorf("%+v", response)
	}
}

// TestUnreadBodies: an answer that did not need the body reaches a client that
// still sends, and a body that is small enough costs no connection.
func TestUnreadBodies(t *testing.T) {
	rig := newRig(t, Options{Handler: handlerFunc(func(x *exchange.Exchange) { respondWith(x, 404, "none") })})
	for _, test := range []struct {
		size    int
		chunked bool
		closes  bool
	}{
		{100, false, false},
		{discardAtMost, false, false},
		{64 << 20, false, true},
		{100, true, false},
		{64 << 20, true, true},
	} {
		c := rig.dial()
		request := fmt.Sprintf("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: %d\r\n\r\n", test.size)
		end := ""
		if test.chunked {
			request, end = chunked(fmt.Sprintf("%x\r\n", test.size)), "\r\n0\r\n\r\n"
		}
		sent := make(chan error, 1)
		go func() {
			_, err := io.WriteString(c.Conn, request+strings.Repeat("x", test.size)+end)
			sent <- err
		}()
		if response := c.receive(http.MethodPost); response.status != 404 || response.body != "none" || response.closes != test.closes {
			t.Errorf("%+v: %+v", test, response)
		}
		if test.closes {
			_ = c.Close()
		}
		if err := <-sent; test.closes {
			continue // all of it was sent, or a part
		} else if err != nil {
			t.Error(err)
		}
		c.send(get + "\r\n")
		if response := c.receive(http.MethodGet); response.status != 404 {
			t.Errorf("%+v: then %+v", test, response)
		}
	}
}

// TestUnreadBytesDoNotResetTheAnswer: an answer that ends a connection
// survives what the client has sent on and nobody will read.
func TestUnreadBytesDoNotResetTheAnswer(t *testing.T) {
	rest := strings.Repeat("x", 200_000)
	for name, request := range map[string]string{
		"an answer before the body": "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 200000\r\n\r\n" + rest,
		"more behind the last":      get + "Connection: close\r\n\r\n" + rest,
		"more behind a refusal":     "GET / HTTP/1.1\r\n\r\n" + rest,
	} {
		rig := newRig(t, Options{Handler: handlerFunc(func(x *exchange.Exchange) { respondWith(x, 400, "no") })})
		c := rig.dial()
		c.send(request)
		if err := c.Conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the server is done with it", func() bool { return rig.server.Stats().Ended == 1 })
		if response, err := c.tryReceive(http.MethodPost); err != nil || response.status != 400 {
			t.Errorf("%s: %+v, %v", name, response, err)
		}
		c.ended() // and not reset
	}
}

// TestIdleConnectionHoldsNoBuffer compares what idle connections cost with
// the buffer that each needed for its request.
func TestIdleConnectionHoldsNoBuffer(t *testing.T) {
	const count = 300
	rig := newRig(t, Options{Handler: handlerFunc(echo)})
	before := heap()
	conns := make([]net.Conn, count)
	for i := range conns {
		c := rig.dial()
		c.send(get + "\r\n")
		c.receive(http.MethodGet)
		c.r = nil
		conns[i] = c.Conn
	}
	eventually(t, "all are idle", func() bool { return rig.server.Stats().Idle == count })
	if each := (heap() - before) / count; each > bufferSize/4 {
		t.Errorf("an idle connection, its client included, holds %d bytes", each)
	}
	runtime.KeepAlive(conns)
}

// heap is what is in use once garbage and pools are gone.
func heap() int64 {
	for range 3 { // pools let go in the second collection
		runtime.GC()
	}
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

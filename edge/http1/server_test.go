package http1

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/grayfed/grayfed/edge/exchange"
)

// respondWith makes text the response.
func respondWith(x *exchange.Exchange, status int, text string) {
	body := new(exchange.BytesBody)
	body.Set([]byte(text))
	x.Response.Status, x.Response.Body, x.Response.ContentLength = status, body, int64(len(text))
}

// echo answers with the request's method, target and body.
func echo(x *exchange.Exchange) {
	var all []byte
	for x.Request.Body != nil {
		piece, err := x.Request.Body.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			respondWith(x, exchange.AsError(err).Status, err.Error())
			return
		}
		all = append(all, piece...)
	}
	respondWith(x, 200, x.Request.Method+" "+x.Request.Path+" "+string(all))
}

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

// outcome is what a handler learns of an exchange's end.
type outcome struct {
	status int
	err    error
}

// outcomes makes a rig's proxy tell how its exchanges ended.
func outcomes(p *proxy) chan outcome {
	ended := make(chan outcome, 100)
	p.done = func(x *exchange.Exchange, err error) { ended <- outcome{x.Response.Status, err} }
	return ended
}

// failures makes a rig's proxy tell why attempts failed.
func failures(p *proxy) chan error {
	failed := make(chan error, 100)
	p.failed = func(err error) { failed <- err }
	return failed
}

func TestTimeoutsOfClients(t *testing.T) {
	t.Parallel()
	const short = 200 * time.Millisecond
	rig := newRig(t, Options{Handler: handlerFunc(echo), HeadTimeout: short, IdleTimeout: short, BodyTimeout: short})
	for name, test := range map[string]struct {
		sent   string
		status int // 0: the connection ends without a word
	}{
		"nothing":               {"", 0},
		"a method":              {"GET", 408},
		"half a head":           {"GET / HTTP/1.1\r\nHost: a.t", 408},
		"half a body":           {"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhe", 408},
		"half a chunk":          {chunked("5\r\nhe"), 408},
		"a body without an end": {chunked("5\r\nhello\r\n"), 408},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, first := range []string{"", get + "\r\n"} {
				c := rig.dial()
				c.send(first + test.sent)
				if first != "" {
					c.receive(http.MethodGet)
				}
				if test.status != 0 {
					if response := c.receive(http.MethodPost); response.status != test.status || !response.closes {
						t.Errorf("%+v", response)
					}
				}
				if rest := c.ended(); rest != "" {
					t.Errorf("%q at the end", rest)
				}
			}
		})
	}
}

// TestSlowReaderIsGivenUp: a client that does not take its response is
// timed out, which is its fault, and the endpoint is let go.
func TestSlowReaderIsGivenUp(t *testing.T) {
	t.Parallel()
	origin := newOrigin(t, endless)
	var ended chan outcome
	rig, transport := newProxyRig(t, origin.address, func(o *Options, _ *TransportOptions, p *proxy) {
		o.WriteTimeout = 200 * time.Millisecond
		ended = outcomes(p)
	})
	rig.dial().send(get + "\r\n")
	failure := exchange.AsError((<-ended).err)
	if failure == nil || failure.Fault != exchange.FaultClient || failure.Phase != exchange.PhaseRespond || !failure.Timeout {
		t.Errorf("%v", failure)
	}
	eventually(t, "the endpoint's connection is closed", func() bool { return transport.Stats().Open == 0 })
}

// endless answers a head with a body that does not end.
func endless(o *origin, nc net.Conn) {
	if o.readUntil(nc, "\r\n\r\n") == "" {
		return
	}
	_, err := io.WriteString(nc, "HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n")
	for piece := make([]byte, 64<<10); err == nil; {
		_, err = nc.Write(piece)
	}
}

// TestOldIdleDeadlineEndsNothing: a wait that is over leaves its deadline
// behind. Once that has passed, while nobody waits, it must not end the next
// wait.
func TestOldIdleDeadlineEndsNothing(t *testing.T) {
	t.Parallel()
	const short = 200 * time.Millisecond
	hold := make(chan struct{})
	rig := newRig(t, Options{IdleTimeout: short, Handler: handlerFunc(func(x *exchange.Exchange) {
		if x.Request.Path == "/held" {
			<-hold
		}
		echo(x)
	})})
	c := rig.dial()
	c.send(get + "\r\n")
	c.receive(http.MethodGet)
	conn := rig.server.all()[0]
	eventually(t, "the connection waits for a request", func() bool { return conn.phase.Load() == phaseIdle })
	c.send("GET /held HTTP/1.1\r\nHost: a.test\r\n\r\n")
	eventually(t, "the sweeper ends the wait that is over", func() bool { return conn.readUntil.Load() == expired })
	close(hold)
	if response := c.receive(http.MethodGet); response.body != "GET /held " || response.closes {
		t.Errorf("%+v", response)
	}
	c.send(get + "\r\n")
	if response := c.receive(http.MethodGet); response.status != 200 {
		t.Errorf("%+v", response)
	}
}

// TestOldReadDeadlineEndsNothing is the same of a read, as of bodies.
func TestOldReadDeadlineEndsNothing(t *testing.T) {
	t.Parallel()
	const short = 200 * time.Millisecond
	client, server := tcpPair(t)
	engine := newTestEngine(t)
	s := new(sock)
	s.init(server, engine)
	engine.add(s)
	defer engine.remove(s)
	buf := make([]byte, 1)
	sent := make(chan error, 1)
	go func() {
		if !happens(func() bool { return s.readUntil.Load() != 0 }) {
			t.Error("the read does not wait")
		}
		_, err := client.Write([]byte("x"))
		sent <- err
	}()
	if n, err := s.read(buf, engine.until(short)); n != 1 || err != nil {
		t.Fatalf("read %d, %v", n, err)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	eventually(t, "the sweeper ends the wait that is over", func() bool { return s.readUntil.Load() == expired })
	if _, err := client.Write([]byte("y")); err != nil {
		t.Fatal(err)
	}
	if n, err := s.read(buf, engine.until(short)); n != 1 || err != nil {
		t.Errorf("a later read: %d, %v", n, err)
	}
	if _, err := s.read(buf, engine.until(short)); !errors.Is(err, errTimeout) {
		t.Errorf("a read of what does not come: %v", err)
	}
	if _, err := client.Write([]byte("z")); err != nil {
		t.Fatal(err)
	}
	if n, err := s.read(buf, engine.until(short)); n != 1 || err != nil {
		t.Errorf("a read after one that timed out: %d, %v", n, err)
	}
}

// TestInterruptionCannotBeMissed interrupts a read while wake-ups that mean
// nothing arrive.
func TestInterruptionCannotBeMissed(t *testing.T) {
	engine := newTestEngine(t)
	for range 200 {
		_, server := tcpPair(t)
		s := new(sock)
		s.init(server, engine)
		ended := make(chan error, 1)
		go func() {
			_, err := s.read(make([]byte, 1), 0)
			ended <- err
		}()
		var waking sync.WaitGroup
		for range 2 {
			waking.Go(func() {
				for range 20 {
					s.wakeReader()
				}
			})
		}
		s.interrupt()
		waking.Wait()
		if err := <-ended; !errors.Is(err, errInterrupted) {
			t.Fatalf("read ended with %v", err)
		}
		if _, err := s.read(make([]byte, 1), 0); !errors.Is(err, errInterrupted) {
			t.Fatalf("a later read ended with %v", err)
		}
		_ = server.Close()
	}
}

// TestOldWriteDeadlinesEndNothing is the same of writes: one that had to wait
// succeeds, and another follows after the deadline.
func TestOldWriteDeadlinesEndNothing(t *testing.T) {
	t.Parallel()
	const short = 200 * time.Millisecond
	client, server := tcpPair(t)
	engine := newTestEngine(t)
	s := new(sock)
	s.init(server, engine)
	engine.add(s)
	defer engine.remove(s)
	const size = 16 << 20 // more than any socket's buffer
	read := make(chan error, 1)
	go func() {
		if !happens(func() bool { return s.writeUntil.Load() != 0 }) {
			t.Error("the write does not wait")
		}
		_, err := io.CopyN(io.Discard, client, size)
		read <- err
	}()
	if n, err := s.write(make([]byte, size), short); n != size || err != nil {
		t.Fatalf("wrote %d, %v", n, err)
	}
	if err := <-read; err != nil {
		t.Fatal(err)
	}
	eventually(t, "the sweeper ends the wait that is over", func() bool { return s.writeUntil.Load() == expired })
	if _, err := s.write([]byte("x"), short); err != nil {
		t.Errorf("a later write: %v", err)
	}
	if _, err := s.write(make([]byte, size), short); !errors.Is(err, errTimeout) {
		t.Errorf("a write that nobody reads: %v", err)
	}
}

func tcpPair(t testing.TB) (client, server net.Conn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if client, err = net.Dial("tcp", listener.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if server, err = listener.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close(); _ = server.Close() })
	return client, server
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
			_ = <-sent // all or a part of it
			continue
		}
		if err := <-sent; err != nil {
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

func TestDrain(t *testing.T) {
	hold, serving := make(chan struct{}), make(chan struct{})
	rig := newRig(t, Options{Handler: handlerFunc(func(x *exchange.Exchange) {
		if x.Request.Path == "/held" {
			serving <- struct{}{}
			<-hold
		}
		echo(x)
	})})
	idle, fresh, busy := rig.dial(), rig.dial(), rig.dial()
	idle.send(get + "\r\n")
	idle.receive(http.MethodGet)
	busy.send("GET /held HTTP/1.1\r\nHost: a.test\r\n\r\nGET /ahead HTTP/1.1\r\nHost: a.test\r\n\r\n")
	<-serving
	eventually(t, "all connections are known", func() bool { s := rig.server.Stats(); return s.Idle == 2 && s.Active == 1 })
	drained := make(chan error, 1)
	go func() { drained <- rig.server.Drain(context.Background()) }()
	for _, c := range []*client{idle, fresh} {
		if rest := c.ended(); rest != "" {
			t.Errorf("an idle connection got %q", rest)
		}
	}
	select {
	case err := <-drained:
		t.Fatalf("drained before the last response: %v", err)
	default:
	}
	close(hold)
	if response := busy.receive(http.MethodGet); response.body != "GET /held " || !response.closes {
		t.Errorf("%+v", response)
	}
	if rest := busy.ended(); rest != "" {
		t.Errorf("%q after the last response", rest)
	}
	_ = busy.Close() // else it is lingered for
	if err := <-drained; err != nil {
		t.Error(err)
	}
}

func TestDrainCutsWhatLasts(t *testing.T) {
	origin := newOrigin(t, func(o *origin, nc net.Conn) { o.readUntil(nc, "never") })
	var ended chan outcome
	rig, transport := newProxyRig(t, origin.address, func(_ *Options, _ *TransportOptions, p *proxy) { ended = outcomes(p) })
	c := rig.dial()
	c.send(get + "\r\n")
	eventually(t, "the request is under way", func() bool { return origin.bytes.Load() > 0 })
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := rig.server.Drain(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("drained: %v", err)
	}
	if failure := exchange.AsError((<-ended).err); failure == nil || failure.Fault != exchange.FaultGateway {
		t.Errorf("%v", failure)
	}
	if stats := transport.Stats(); stats.Open != 0 {
		t.Errorf("%+v", stats)
	}
	for range 20 {
		late := rig.dial()
		_, _ = io.WriteString(late.Conn, get+"\r\n") // it may be closed already
		if rest, _ := io.ReadAll(late); len(rest) != 0 {
			t.Fatalf("a connection after the end got %q", rest)
		}
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

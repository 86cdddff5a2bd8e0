package http1

import (
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/grayfed/grayfed/edge/exchange"
)

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
	// A client that has read much has a receive buffer as large as Linux lets it
	// grow (net.ipv4.tcp_rmem, 32 MiB and less by default).
	if _, err := s.write(make([]byte, 8*size), short); !errors.Is(err, errTimeout) {
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

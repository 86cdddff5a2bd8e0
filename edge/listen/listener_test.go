package listen

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/grayfed/grayfed/edge/exchange"
)

// holder keeps each connection until its client closes it.
type holder struct {
	mu   sync.Mutex
	seen []exchange.Conn
}

func (h *holder) ServeConn(conn net.Conn, info exchange.Conn) {
	h.mu.Lock()
	h.seen = append(h.seen, info)
	h.mu.Unlock()
	_, _ = conn.Write([]byte{'+'})
	_, _ = io.Copy(io.Discard, conn)
	_ = conn.Close()
}

func open(t *testing.T, limit int) (*Listener, *holder) {
	t.Helper()
	codec := &holder{}
	l, err := Open(context.Background(), Options{
		Address: "127.0.0.1:0", MaxConnections: limit, HTTP1: codec, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- l.Run() }()
	t.Cleanup(func() {
		if err := errors.Join(l.Close(), <-ended); err != nil {
			t.Error(err)
		}
		if n := l.Stats().Open; n != 0 {
			t.Errorf("Run returned with %d connections open", n)
		}
	})
	return l, codec
}

// greet connects and returns what the listener sends first; io.EOF or a reset
// when it closes instead.
func greet(t *testing.T, l *Listener) (net.Conn, error) {
	t.Helper()
	conn, err := net.Dial("tcp", l.Address().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	_, err = conn.Read(make([]byte, 1))
	return conn, err
}

func TestLimitRefusesAtOnceAndRecovers(t *testing.T) {
	l, codec := open(t, 2)
	var held []net.Conn
	for range 2 {
		conn, err := greet(t, l)
		if err != nil {
			t.Fatalf("below the limit: %v", err)
		}
		held = append(held, conn)
	}
	third, err := greet(t, l)
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("at the limit: %v, want a closed connection", err)
	}
	_ = third.Close()
	if s := l.Stats(); s.Refused != 1 || s.Open != 2 || s.Accepted != 2 {
		t.Errorf("stats %+v", s)
	}
	_ = held[0].Close()
	for {
		conn, err := greet(t, l) // its place is free as soon as the codec saw the end
		_ = conn.Close()
		if err == nil {
			break
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
	}
	_ = held[1].Close()
	codec.mu.Lock()
	defer codec.mu.Unlock()
	ids := make(map[uint64]bool)
	for _, info := range codec.seen {
		if ids[info.ID] || !info.Remote.Addr().IsLoopback() || info.Local.Port() == 0 {
			t.Errorf("connection described as %+v", info)
		}
		ids[info.ID] = true
	}
}

func TestAcceptErrors(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ECONNABORTED} {
		if !temporary(&net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", errno)}) {
			t.Errorf("%v would end the listener", errno)
		}
	}
	if temporary(syscall.EBADF) || temporary(io.EOF) {
		t.Error("an error of the listener itself would be retried for ever")
	}
	p := pause{}
	first := p.next()
	for range 20 {
		p.next()
	}
	if first != 5*time.Millisecond || p.next() != time.Second {
		t.Errorf("pauses from %s to %s", first, p.current)
	}
	p.reset()
	if p.next() != first {
		t.Error("a success does not shorten the pause")
	}
}

func TestOptionsAreChecked(t *testing.T) {
	good := Options{Address: "127.0.0.1:0", MaxConnections: 1, HTTP1: &holder{}, Log: slog.New(slog.DiscardHandler)}
	for name, spoil := range map[string]func(*Options){
		"address":            func(o *Options) { o.Address = "" },
		"limit":              func(o *Options) { o.MaxConnections = 0 },
		"codec":              func(o *Options) { o.HTTP1 = nil },
		"log":                func(o *Options) { o.Log = nil },
		"h2 without a codec": func(o *Options) { o.TLS = &tls.Config{NextProtos: []string{"h2"}} },
		"unbindable":         func(o *Options) { o.Address = "192.0.2.1:1" },
	} {
		opts := good
		spoil(&opts)
		if l, err := Open(context.Background(), opts); err == nil {
			_ = l.Close()
			t.Errorf("%s: accepted", name)
		}
	}
}

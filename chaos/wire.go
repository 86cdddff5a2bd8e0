package chaos

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"syscall"
	"time"
)

const (
	// connectTimeout bounds one connection, TLS included.
	connectTimeout = time.Second
	// maxAnswer bounds a response's body, in bytes.
	maxAnswer = 64 << 10
)

// door is one address that requests enter by, with its idle connections.
type door struct {
	address   string // host:port
	tls       *tls.Config
	reconnect int
	patience  time.Duration // for connecting

	mu   sync.Mutex
	idle []*wire // the last used last
}

// newDoor is of the data listener of a URL.
func newDoor(text string, roots *x509.CertPool, reconnect int) (*door, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("URL of a data listener: %w", err)
	}
	d := &door{address: u.Host, reconnect: reconnect, patience: connectTimeout}
	port := "80"
	if u.Scheme == "https" {
		port = "443"
		d.tls = &tls.Config{RootCAs: roots, ServerName: u.Hostname(), MinVersion: tls.VersionTLS12}
	}
	if u.Port() == "" {
		d.address = net.JoinHostPort(u.Hostname(), port)
	}
	return d, nil
}

// response is an answer with its body read.
type response struct {
	status int
	header http.Header
	body   []byte
}

// ask sends a whole request and reads its response within timeout. It uses an
// idle connection if the edge has not closed it. An idempotent request whose
// idle connection breaks before a byte of the response is sent once more, on a
// new one, as clients do (RFC 9112, 9.3.1); nothing else is sent twice.
func (d *door) ask(ctx context.Context, request []byte, idempotent bool, timeout time.Duration) (response, error) {
	deadline := time.Now().Add(timeout)
	for again := false; ; again = true {
		var w *wire
		if !again {
			w = d.take()
		}
		used := w != nil
		if !used {
			var err error
			if w, err = d.connect(ctx, min(timeout, d.patience)); err != nil {
				return response{}, err
			}
		}
		answer, keep, err := w.ask(request, deadline)
		if err == nil && keep && w.asked < d.reconnect {
			d.put(w)
			return answer, nil
		}
		_ = w.conn.Close() // nothing is in flight on it any more
		if broken := new(unansweredError); used && idempotent && errors.As(err, &broken) && time.Now().Before(deadline) {
			continue
		}
		return answer, err
	}
}

// take returns an idle connection that the edge has not closed; nil: none.
func (d *door) take() *wire {
	for {
		d.mu.Lock()
		n := len(d.idle)
		if n == 0 {
			d.mu.Unlock()
			return nil
		}
		w := d.idle[n-1]
		d.idle = d.idle[:n-1]
		d.mu.Unlock()
		if w.silent() {
			return w
		}
		_ = w.conn.Close() // the edge has closed it already
	}
}

func (d *door) put(w *wire) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.idle = append(d.idle, w)
}

// close closes the idle connections.
func (d *door) close() {
	d.mu.Lock()
	idle := d.idle
	d.idle = nil
	d.mu.Unlock()
	for _, w := range idle {
		_ = w.conn.Close() // idle
	}
}

func (d *door) connect(ctx context.Context, timeout time.Duration) (*wire, error) {
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var dialer net.Dialer
	raw, err := dialer.DialContext(limited, "tcp", d.address)
	if err != nil {
		return nil, err
	}
	stream, ok := raw.(syscall.Conn)
	if !ok {
		return nil, errors.Join(fmt.Errorf("connect to %s: not a socket", d.address), raw.Close())
	}
	w := &wire{conn: raw}
	if w.socket, err = stream.SyscallConn(); err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	if d.tls != nil {
		secured := tls.Client(raw, d.tls)
		if err := secured.HandshakeContext(limited); err != nil {
			_ = raw.Close() // the handshake's error says what was wrong
			return nil, fmt.Errorf("TLS handshake: %w", err)
		}
		w.conn = secured
	}
	w.in = bufio.NewReaderSize(w.conn, 4096)
	return w, nil
}

// wire is one connection with one request at a time.
type wire struct {
	conn   net.Conn
	socket syscall.RawConn // below TLS
	in     *bufio.Reader
	asked  int // requests so far
}

// unansweredError is of a connection that broke before a byte of the response.
type unansweredError struct{ err error }

func (e *unansweredError) Error() string { return e.err.Error() }

// Unwrap returns how it broke.
func (e *unansweredError) Unwrap() error { return e.err }

// ask reports whether another request may follow on the connection.
func (w *wire) ask(request []byte, deadline time.Time) (answer response, keep bool, err error) {
	w.asked++
	if err := w.conn.SetDeadline(deadline); err != nil {
		return response{}, false, err
	}
	if _, err := w.conn.Write(request); err != nil {
		return response{}, false, &unansweredError{err}
	}
	if _, err := w.in.Peek(1); err != nil {
		return response{}, false, &unansweredError{err}
	}
	r, err := http.ReadResponse(w.in, nil)
	if err != nil {
		return response{}, false, fmt.Errorf("read the response: %w", err)
	}
	answer = response{status: r.StatusCode, header: r.Header}
	answer.body, err = io.ReadAll(io.LimitReader(r.Body, maxAnswer+1))
	if err = errors.Join(err, r.Body.Close()); err != nil {
		return answer, false, fmt.Errorf("read the body: %w", err)
	}
	if len(answer.body) > maxAnswer {
		return answer, false, fmt.Errorf("a body of more than %d bytes", maxAnswer)
	}
	return answer, !r.Close, nil
}

// silent reports that nothing has come on an idle connection, its end neither.
func (w *wire) silent() bool {
	if w.in.Buffered() > 0 {
		return false
	}
	quiet := false
	err := w.socket.Read(func(fd uintptr) bool {
		var one [1]byte
		_, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		quiet = errors.Is(err, syscall.EAGAIN)
		return true
	})
	return err == nil && quiet
}

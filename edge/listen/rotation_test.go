package listen

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/grayfed/grayfed/edge/certs"
	"github.com/grayfed/grayfed/edge/exchange"
	"github.com/grayfed/grayfed/edge/http1"
)

// ok answers every request with 204.
type ok struct{}

func (ok) Serve(x *exchange.Exchange)     { x.Response.Status = 204 }
func (ok) Done(*exchange.Exchange, error) {}

// TestCertificatesChangeUnderLoad: requests on connections that stay and on
// new ones, on resumed sessions and on fresh ones, go on while the certificate
// is replaced again and again. None fails, and new handshakes see the newest.
func TestCertificatesChangeUnderLoad(t *testing.T) {
	const changes = 20
	a, dir := newAuthority(t), t.TempDir()
	engine := http1.NewEngine()
	server, err := http1.NewServer(http1.Options{Handler: ok{}, Engine: engine})
	if err != nil {
		t.Fatal(err)
	}
	store, err := certs.New(certs.Options{
		Name: "test", Pairs: []certs.Pair{a.issue(t, dir, 1)}, Protocols: []string{"http/1.1"},
		Interval: time.Millisecond, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, func(o *Options) { o.HTTP1, o.HTTP2, o.TLS = server, nil, store.Config() })
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = engine.Run(ctx) })
	running.Go(func() { _ = store.Run(ctx) })
	t.Cleanup(func() {
		if err := server.Drain(context.Background()); err != nil {
			t.Error(err)
		}
		cancel()
		running.Wait()
	})

	address := r.listener.Address().String()
	var newest, requests atomic.Int64
	var over atomic.Bool
	var asking sync.WaitGroup
	for i := range 4 {
		config := a.client("http/1.1")
		if i%2 == 0 {
			config.ClientSessionCache = tls.NewLRUClientSessionCache(8)
		}
		stays := i < 2
		asking.Go(func() {
			var c *tls.Conn
			for !over.Load() {
				if c == nil || !stays {
					if c != nil {
						_ = c.Close() // between requests
					}
					var err error
					if c, err = tls.Dial("tcp", address, config); err != nil {
						t.Errorf("after %d requests: %v", requests.Load(), err)
						return
					}
					// Of a resumed session it is the serial of back then.
					if state := c.ConnectionState(); !state.DidResume {
						serial := state.PeerCertificates[0].SerialNumber.Int64()
						for seen := newest.Load(); serial > seen && !newest.CompareAndSwap(seen, serial); seen = newest.Load() {
						}
					}
				}
				if err := askOnce(c); err != nil {
					t.Errorf("after %d requests: %v", requests.Load(), err)
					return
				}
				requests.Add(1)
			}
			_ = c.Close() // between requests
		})
	}
	for serial := int64(2); serial <= changes && !t.Failed(); serial++ {
		a.issue(t, dir, serial)
		for deadline := time.Now().Add(20 * time.Second); newest.Load() < serial && !t.Failed(); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Errorf("certificate %d is not served, %d is", serial, newest.Load())
				break
			}
		}
	}
	over.Store(true)
	asking.Wait()
	t.Logf("%d requests, %d certificates", requests.Load(), newest.Load())
}

func askOnce(c *tls.Conn) error {
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return err
	}
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x.test\r\n\r\n"); err != nil {
		return err
	}
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusNoContent {
		err = fmt.Errorf("status %d", response.StatusCode)
	}
	return errors.Join(err, response.Body.Close())
}

package listen

import (
	"context"
	"net/http"
	"sync"
	"testing"

	"github.com/grayfed/grayfed/edge/http1"
	"github.com/grayfed/grayfed/edge/http2"
)

// TestBothProtocolsOnOnePort: the codecs of the edge, net/http's clients, with
// TLS and without.
func TestBothProtocolsOnOnePort(t *testing.T) {
	a := newAuthority(t)
	engine1, engine2 := http1.NewEngine(), http2.NewEngine()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = engine1.Run(ctx) })
	running.Go(func() { _ = engine2.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	for _, secure := range []bool{false, true} {
		server1, err := http1.NewServer(http1.Options{Handler: ok{}, Engine: engine1})
		if err != nil {
			t.Fatal(err)
		}
		server2, err := http2.NewServer(http2.Options{Handler: ok{}, Engine: engine2})
		if err != nil {
			t.Fatal(err)
		}
		r := newRig(t, func(o *Options) {
			o.HTTP1, o.HTTP2 = server1, server2
			if secure {
				o.TLS = a.store(t, nil).Config()
			}
		})
		url := "http://" + r.listener.Address().String() + "/"
		if secure {
			url = "https://" + r.listener.Address().String() + "/"
		}
		for major := 1; major <= 2; major++ {
			transport := &http.Transport{TLSClientConfig: a.client(), Protocols: new(http.Protocols)}
			transport.Protocols.SetHTTP1(major == 1)
			transport.Protocols.SetHTTP2(major == 2 && secure)
			transport.Protocols.SetUnencryptedHTTP2(major == 2 && !secure)
			client := &http.Client{Transport: transport}
			for range 3 {
				response, err := client.Get(url)
				if err != nil {
					t.Fatalf("HTTP/%d, TLS %t: %v", major, secure, err)
				}
				_ = response.Body.Close()
				if response.StatusCode != http.StatusNoContent || response.ProtoMajor != major {
					t.Errorf("HTTP/%d, TLS %t: %s %d", major, secure, response.Proto, response.StatusCode)
				}
			}
			transport.CloseIdleConnections()
		}
		if err := server1.Drain(context.Background()); err != nil {
			t.Error(err)
		}
		if err := server2.Drain(context.Background()); err != nil {
			t.Error(err)
		}
	}
}

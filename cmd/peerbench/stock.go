package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"strconv"
	"syscall"
	"time"
)

// stockCommand is the hidden first argument that turns this binary into the
// reverse proxy of Go's standard library.
const stockCommand = "stock"

// stockMain serves the job of the comparison with net/http on both sides and
// httputil.ReverseProxy between them, until it is killed. The pool of idle
// connections is as large as the other proxies'; all else is as it comes.
func stockMain(args []string, _ io.Writer) error {
	var s stock
	flags := flag.NewFlagSet(stockCommand, flag.ContinueOnError)
	listen := flags.String("listen", "", "address")
	flags.StringVar(&s.stable, "stable", "", "address of the stable origin")
	flags.StringVar(&s.canary, "canary", "", "address of the canary origin")
	certFile := flags.String("cert", "", "certificate; cleartext without")
	keyFile := flags.String("key", "", "its key")
	if err := flags.Parse(args); err != nil {
		return err
	}
	var speaks http.Protocols
	speaks.SetHTTP1(true)
	speaks.SetHTTP2(true)
	speaks.SetUnencryptedHTTP2(true)
	server := &http.Server{
		Addr: *listen, Handler: s.handler(), Protocols: &speaks,
		ReadHeaderTimeout: time.Minute, IdleTimeout: 300 * time.Second,
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS13},
		ErrorLog:  log.New(io.Discard, "", 0), // it would tell of each connection that ends
	}
	if *certFile == "" {
		return server.ListenAndServe()
	}
	return server.ListenAndServeTLS(*certFile, *keyFile)
}

type stock struct{ stable, canary string }

func (s stock) handler() http.Handler {
	return &httputil.ReverseProxy{
		Rewrite: s.rewrite,
		Transport: &http.Transport{
			MaxIdleConns: 4096, MaxIdleConnsPerHost: 1024, IdleConnTimeout: 300 * time.Second, DisableCompression: true,
		},
	}
}

func (s stock) rewrite(r *httputil.ProxyRequest) {
	client, _, _ := net.SplitHostPort(r.In.RemoteAddr) // net/http wrote it
	r.SetXForwarded()
	r.Out.Header.Set("X-Real-IP", client)
	r.Out.Header.Set("X-Request-ID", rand.Text())
	r.Out.Host = r.In.Host
	r.Out.URL.Scheme, r.Out.URL.Host = "http", s.stable
	if r.In.Header.Get(tagHeader) == canaryRelease {
		r.Out.URL.Host = s.canary
	}
}

func (b *bench) startStock(_ context.Context, speaks protocol) (*proxy, error) {
	j, err := b.newJob(speaks, false, 0)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	args := []string{stockCommand, "-listen", j.Listen.String(), "-stable", j.Stable.String(), "-canary", j.Canary.String()}
	if speaks.TLS {
		args = append(args, "-cert", j.CertFile, "-key", j.KeyFile)
	}
	return startSingle(j, command{
		Name: peerStock, Path: self, Dir: j.Dir, Args: args, Death: syscall.SIGKILL,
		Env: []string{"GOMAXPROCS=" + strconv.Itoa(j.Workers)},
	})
}

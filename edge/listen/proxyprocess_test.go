package listen

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/grayfed/grayfed/edge/certs"
	"github.com/grayfed/grayfed/edge/exchange"
	"github.com/grayfed/grayfed/edge/http1"
)

// Benchmarks run this test binary once more as a proxy that ends TLS, so that
// its CPU time and memory are apart from the clients'. These are its
// arguments, and what tells it that it is one.
const (
	proxyKind   = "LISTEN_TEST_PROXY" // "grayfed" or "net/http"
	proxyOrigin = "LISTEN_TEST_ORIGIN"
	proxyPair   = "LISTEN_TEST_PAIR" // certificate file, comma, key file
)

// onward is the least a gateway does.
type onward struct{ transport exchange.Transport }

func (h onward) Serve(x *exchange.Exchange) {
	if err := h.transport.RoundTrip(x); err != nil {
		x.Response.Reset()
		x.Response.Status = 502
	}
}

func (onward) Done(*exchange.Exchange, error) {}

// runProxy serves until its input ends, having said where.
func runProxy(kind string) {
	certFile, keyFile, _ := strings.Cut(os.Getenv(proxyPair), ",")
	origin := os.Getenv(proxyOrigin)
	var err error
	if kind == "net/http" {
		err = runStandard(origin, certFile, keyFile)
	} else {
		err = runOwn(origin, certs.Pair{CertFile: certFile, KeyFile: keyFile})
	}
	if err != nil {
		log.Fatal(err)
	}
}

func ready(address net.Addr) {
	fmt.Println(address)
	_, _ = io.Copy(io.Discard, os.Stdin) // its end is all that matters
}

func runOwn(origin string, pair certs.Pair) error {
	discard := slog.New(slog.DiscardHandler)
	engine := http1.NewEngine()
	go func() { _ = engine.Run(context.Background()) }()
	transport, err := http1.NewTransport(http1.TransportOptions{Address: origin, Engine: engine})
	if err != nil {
		return err
	}
	server, err := http1.NewServer(http1.Options{Handler: onward{transport}, Engine: engine})
	if err != nil {
		return err
	}
	store, err := certs.New(certs.Options{Name: "bench", Pairs: []certs.Pair{pair}, Protocols: []string{"http/1.1"}, Log: discard})
	if err != nil {
		return err
	}
	listener, err := Open(context.Background(), Options{
		Name: "bench", Address: "127.0.0.1:0", MaxConnections: 100_000, HTTP1: server, TLS: store.Config(), Log: discard,
	})
	if err != nil {
		return err
	}
	go func() { _ = listener.Run() }()
	ready(listener.Address())
	return nil
}

func runStandard(origin, certFile, keyFile string) error {
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return err
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"http/1.1"}})
	if err != nil {
		return err
	}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: origin})
	proxy.Transport = &http.Transport{MaxIdleConnsPerHost: 1024}
	go func() { _ = http.Serve(listener, proxy) }()
	ready(listener.Addr())
	return nil
}

// proxyProcess is a proxy under measurement.
type proxyProcess struct {
	b       *testing.B
	pid     int
	address string
}

// startProxy runs a proxy for x.test in front of origin.
func startProxy(b *testing.B, kind, origin string, pair certs.Pair) *proxyProcess {
	b.Helper()
	command := exec.Command(os.Args[0])
	command.Env = append(os.Environ(), proxyKind+"="+kind, proxyOrigin+"="+origin, proxyPair+"="+pair.CertFile+","+pair.KeyFile)
	command.Stderr = os.Stderr
	input, err := command.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	output, err := command.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := command.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = input.Close()
		if err := command.Wait(); err != nil {
			b.Error(err)
		}
	})
	address, err := bufio.NewReader(output).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	return &proxyProcess{b: b, pid: command.Process.Pid, address: strings.TrimSpace(address)}
}

// cpu is what the process has used, in user and system mode.
func (p *proxyProcess) cpu() time.Duration {
	p.b.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.pid))
	if err != nil {
		p.b.Fatal(err)
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	const tick = 10 * time.Millisecond // USER_HZ is 100 on Linux
	total := time.Duration(0)
	for _, field := range fields[11:13] { // utime and stime, the 14th and 15th of all
		n, err := strconv.Atoi(field)
		if err != nil {
			p.b.Fatal(err)
		}
		total += time.Duration(n) * tick
	}
	return total
}

// anonymous is RssAnon of the process in bytes.
func (p *proxyProcess) anonymous() int64 {
	p.b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.pid))
	if err != nil {
		p.b.Fatal(err)
	}
	for line := range bytes.Lines(status) {
		if rest, ok := bytes.CutPrefix(line, []byte("RssAnon:")); ok {
			kb, err := strconv.ParseInt(string(bytes.Fields(rest)[0]), 10, 64)
			if err != nil {
				p.b.Fatal(err)
			}
			return kb << 10
		}
	}
	p.b.Fatal("no RssAnon")
	return 0
}

package gateway

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/grayfed/grayfed/edge/breaker"
	"github.com/grayfed/grayfed/edge/exchange"
	"github.com/grayfed/grayfed/edge/http2"
	"github.com/grayfed/grayfed/edge/observe"
	"github.com/grayfed/grayfed/edge/ratelimit"
	"github.com/grayfed/grayfed/edge/route"
	"github.com/grayfed/grayfed/federation"
)

func TestGRPCTimeoutIsReadStrictly(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"1H": time.Hour, "2M": 2 * time.Minute, "3S": 3 * time.Second, "4m": 4 * time.Millisecond, "5u": 5 * time.Microsecond,
		"6n": 6, "00000007n": 7, "99999999n": 99_999_999, "0S": 1, "99999999H": maxGRPCTimeout, "99999999S": maxGRPCTimeout,
	} {
		if got, ok := parseGRPCTimeout(text); !ok || got != want {
			t.Errorf("%q: %v, %v, want %v", text, got, ok, want)
		}
	}
	for _, text := range []string{"", "1", "S", "1s", "1h", "-1S", "+1S", "1.5S", " 1S", "1S ", "100000000n", "1SS", "0x1S", "１S"} {
		if got, ok := parseGRPCTimeout(text); ok {
			t.Errorf("%q is taken for %v", text, got)
		}
	}
	for _, d := range []time.Duration{-time.Second, 0, 1500, time.Second, 100 * time.Second, 24 * time.Hour, 300 * 24 * time.Hour} {
		text := spellGRPCTimeout(d)
		if got, ok := parseGRPCTimeout(text); !ok || got > max(d, time.Microsecond) || got < d-d/100-time.Microsecond {
			t.Errorf("%v is written %q, which is %v", d, text, got)
		}
	}
	var header exchange.Fields
	header.Add("Grpc-Timeout", "1S")
	if got, ok := grpcTimeout(&header); !ok || got != time.Second {
		t.Errorf("%v, %v", got, ok)
	}
	header.Add("grpc-timeout", "1S")
	if _, ok := grpcTimeout(&header); ok {
		t.Error("two timeouts are one")
	}
}

func TestIsGRPC(t *testing.T) {
	for text, want := range map[string]bool{
		"application/grpc": true, "application/grpc+proto": true, "Application/GRPC;x=y": true,
		"": false, "application/grpc-web": false, "application/grpc-web+proto": false, "application/grpcx": false, "application/json": false,
	} {
		if got := isGRPC(text); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}

func TestGRPCMessageIsEncoded(t *testing.T) {
	const text = "100% of \u00fc\r\n~ \x7f"
	got := grpcMessage(text)
	if got != "100%25 of %C3%BC%0D%0A~ %7F" {
		t.Errorf("got %q", got)
	}
	if back, err := url.PathUnescape(got); err != nil || back != text {
		t.Errorf("%q, %v", back, err)
	}
}

// grpcService is an endpoint whose calls a test scripts.
type grpcService struct {
	grpc_testing.UnimplementedTestServiceServer
	name  string
	calls atomic.Int64
	unary func(ctx context.Context, in *grpc_testing.SimpleRequest) (*grpc_testing.SimpleResponse, error)
	both  func(grpc.BidiStreamingServer[grpc_testing.StreamingOutputCallRequest, grpc_testing.StreamingOutputCallResponse]) error
}

func (s *grpcService) UnaryCall(ctx context.Context, in *grpc_testing.SimpleRequest) (*grpc_testing.SimpleResponse, error) {
	s.calls.Add(1)
	if s.unary != nil {
		return s.unary(ctx, in)
	}
	return &grpc_testing.SimpleResponse{Username: s.name, Payload: in.GetPayload()}, grpc.SetTrailer(ctx, metadata.Pairs("x-by", s.name))
}

func (s *grpcService) FullDuplexCall(both grpc.BidiStreamingServer[grpc_testing.StreamingOutputCallRequest, grpc_testing.StreamingOutputCallResponse]) error {
	s.calls.Add(1)
	return s.both(both)
}

func (s *grpcService) StreamingInputCall(in grpc.ClientStreamingServer[grpc_testing.StreamingInputCallRequest, grpc_testing.StreamingInputCallResponse]) error {
	s.calls.Add(1)
	for n := int32(0); ; n++ {
		if _, err := in.Recv(); errors.Is(err, io.EOF) {
			return in.SendAndClose(&grpc_testing.StreamingInputCallResponse{AggregatedPayloadSize: n})
		} else if err != nil {
			return err
		}
	}
}

func (s *grpcService) serve(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	grpc_testing.RegisterTestServiceServer(server, s)
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(listener) })
	t.Cleanup(func() { server.Stop(); serving.Wait() })
	return listener.Addr().String()
}

// grpcRig is a rig that speaks HTTP/2 on both sides.
type grpcRig struct {
	*rig
	address string
	client  grpc_testing.TestServiceClient
}

func newGRPCRig(t *testing.T) *grpcRig {
	t.Helper()
	engine := http2.NewEngine()
	r := &grpcRig{rig: newRig(t, func(o *Options) {
		patient(t)(o)
		o.NewTransport = func(i *federation.Instance) (Upstream, error) {
			return http2.NewTransport(http2.TransportOptions{Address: i.Address, Engine: engine, ConnectTimeout: 5 * time.Second})
		}
	})}
	r.run(engine.Run)
	server, err := http2.NewServer(http2.Options{Handler: r.gateway, Engine: engine, BodyTimeout: 400 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.address = listener.Addr().String()
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			nc, err := listener.Accept()
			if err != nil {
				return
			}
			info := exchange.Conn{ID: r.conns.Add(1), Remote: nc.RemoteAddr().(*net.TCPAddr).AddrPort()}
			serving.Go(func() { server.ServeConn(nc, info) })
		}
	})
	client, err := grpc.NewClient(r.address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableRetry())
	if err != nil {
		t.Fatal(err)
	}
	r.client = grpc_testing.NewTestServiceClient(client)
	t.Cleanup(func() {
		_ = client.Close()
		_ = listener.Close()
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = server.Drain(ctx)
		serving.Wait()
	})
	return r
}

// plain is the answer to a gRPC request as HTTP/2 has it.
type plain struct {
	status          int
	header, trailer http.Header
	length          int64
}

// raw sends a gRPC request as plain HTTP/2.
func (r *grpcRig) raw(method, path, timeout string) plain {
	r.t.Helper()
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	message := binary.BigEndian.AppendUint32([]byte{0}, 0)
	transport.DialContext = func(_ context.Context, network, address string) (net.Conn, error) {
		nc, err := net.Dial(network, address)
		return &together{Conn: nc, until: append([]byte("\x00\x00\x05\x00\x01\x00\x00\x00\x01"), message...)}, err
	}
	request, err := http.NewRequest(method, "http://"+r.address+path, bytes.NewReader(message))
	if err != nil {
		r.t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/grpc+proto")
	request.Header.Set("TE", "trailers")
	if timeout != "" {
		request.Header.Set("Grpc-Timeout", timeout)
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		r.t.Fatal(err)
	}
	defer response.Body.Close()
	n, err := io.Copy(io.Discard, response.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return plain{response.StatusCode, response.Header, response.Trailer, n}
}

// together holds back what a client sends until it ends with these bytes: a
// request goes out in one write.
type together struct {
	net.Conn
	held, until []byte
}

func (c *together) Write(p []byte) (int, error) {
	if c.until == nil {
		return c.Conn.Write(p)
	}
	if c.held = append(c.held, p...); !bytes.HasSuffix(c.held, c.until) {
		return len(p), nil
	}
	c.until = nil
	_, err := c.Conn.Write(c.held)
	return len(p), err
}

const unaryPath = "/grpc.testing.TestService/UnaryCall"

func TestGRPCPassesThrough(t *testing.T) {
	r := newGRPCRig(t)
	r.configure(usersConfig(federation.Strict))
	stable, canary := &grpcService{name: "stable"}, &grpcService{name: "canary"}
	r.register(instance("a", "az1", "v1", stable.serve(t)), instance("b", "az2", "v2", canary.serve(t)))
	for tag, want := range map[string]string{"": "stable", "v2-beta": "canary"} {
		ctx := context.Background()
		if tag != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, "x-release-tag", tag)
		}
		var trailer metadata.MD
		answer, err := r.client.UnaryCall(ctx, &grpc_testing.SimpleRequest{}, grpc.Trailer(&trailer))
		if err != nil || answer.GetUsername() != want || fmt.Sprint(trailer["x-by"]) != "["+want+"]" {
			t.Errorf("tag %q: %v, %v, trailer %v", tag, answer, err, trailer)
		}
	}
	stable.unary = func(context.Context, *grpc_testing.SimpleRequest) (*grpc_testing.SimpleResponse, error) {
		return nil, status.Error(codes.FailedPrecondition, "not 100% ready")
	}
	_, err := r.client.UnaryCall(context.Background(), &grpc_testing.SimpleRequest{})
	if got := status.Convert(err); got.Code() != codes.FailedPrecondition || got.Message() != "not 100% ready" {
		t.Errorf("%v", err)
	}
}

// A call's status is in the log, wherever it stood, and metrics count by it.
func TestGRPCEvidence(t *testing.T) {
	reg := prometheus.NewRegistry()
	r := newGRPCRig(t)
	requests, err := observe.NewRequests(reg, make([]string, route.RungCount))
	if err != nil {
		t.Fatal(err)
	}
	r.gateway.opts.Requests = requests
	r.configure(usersConfig(federation.Strict))
	answer := codes.OK
	service := &grpcService{unary: func(context.Context, *grpc_testing.SimpleRequest) (*grpc_testing.SimpleResponse, error) {
		return &grpc_testing.SimpleResponse{}, status.Error(answer, "so")
	}}
	r.register(instance("a", "az1", "v1", service.serve(t)))
	for _, answer = range []codes.Code{codes.OK, codes.NotFound, codes.Internal, 200} {
		if got, err := r.client.UnaryCall(context.Background(), &grpc_testing.SimpleRequest{}); status.Code(err) != answer {
			t.Fatalf("%v, %v", got, err)
		}
	}
	for _, want := range []string{"0", "5", "13", "200"} {
		eventually(t, "the log has status "+want, func() bool { return strings.Contains(r.log.String(), `"grpc_status":"`+want+`"`) })
	}
	families := fmt.Sprint(counters(t, reg))
	for class, n := range map[string]int{"2xx": 1, "4xx": 1, "5xx": 2} {
		if want := fmt.Sprintf("code=%s,route=users,rung=,subset=baseline} %d", class, n); !strings.Contains(families, want) {
			t.Errorf("counted %s, want %s", families, want)
		}
	}
}

// What the edge answers itself is a status to a gRPC client, and HTTP to others.
func TestGRPCRefusals(t *testing.T) {
	r := newGRPCRig(t)
	config := usersConfig(federation.Strict)
	config.Routes[0].Path = "/grpc.testing.TestService/{call}"
	config.Routes[0].Methods = []string{"POST"}
	limited := usersRoute()
	limited.ID, limited.Path, limited.RateLimit = "limited", "/limited", &ratelimit.Options{RPM: 1, Burst: 1}
	config.Routes = append(config.Routes, limited)
	r.configure(config)
	r.register(instance("a", "az1", "v1", refusingAddress(t)))
	r.raw("POST", "/limited", "")
	for _, test := range []struct{ method, path, timeout, status, reason string }{
		{"POST", "/nowhere", "", "12", "no-route"},
		{"GET", unaryPath, "", "2", "method-not-allowed"},
		{"POST", "/a/%00", "", "13", "malformed-path"},
		{"POST", unaryPath, "1s", "13", "malformed-timeout"},
		{"POST", "/limited", "", "14", "rate-limited"},
		{"POST", unaryPath, "", "14", "connect-failed"},
	} {
		response := r.raw(test.method, test.path, test.timeout)
		message, err := url.PathUnescape(response.header.Get("Grpc-Message"))
		if response.status != http.StatusOK || response.header.Get("Content-Type") != "application/grpc" || err != nil ||
			response.header.Get("Grpc-Status") != test.status || !strings.HasSuffix(message, "("+test.reason+")") {
			t.Errorf("%s %s: %d %v", test.method, test.path, response.status, response.header)
		}
		if response.length > 0 || response.header.Get("X-Request-Id") == "" {
			t.Errorf("%s: %d bytes, id %q", test.path, response.length, response.header.Get("X-Request-Id"))
		}
	}
	if _, err := r.client.UnaryCall(context.Background(), &grpc_testing.SimpleRequest{}); status.Code(err) != codes.Unavailable {
		t.Errorf("grpc-go sees %v", err)
	}
	// The log tells what it was in HTTP.
	eventually(t, "the log has the statuses", func() bool {
		log := r.log.String()
		return strings.Contains(log, `"status":404`) && strings.Contains(log, `"status":429`) && strings.Contains(log, `"status":502`)
	})
}

// A client's timeout ends the exchange, and is DEADLINE_EXCEEDED; the route's is
// UNAVAILABLE. The endpoint is told of the client's.
func TestGRPCDeadlines(t *testing.T) {
	r := newGRPCRig(t)
	config := usersConfig(federation.Strict)
	r.configure(config)
	left := make(chan time.Duration, 16)
	service := &grpcService{unary: func(ctx context.Context, _ *grpc_testing.SimpleRequest) (*grpc_testing.SimpleResponse, error) {
		until, ok := ctx.Deadline()
		if !ok {
			until = time.Now()
		}
		left <- time.Until(until)
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	r.register(instance("a", "az1", "v1", service.serve(t)))
	if response := r.raw("POST", unaryPath, "200m"); response.header.Get("Grpc-Status") != "4" {
		t.Errorf("%v", response.header)
	}
	if got := <-left; got <= 0 || got > 200*time.Millisecond {
		t.Errorf("the endpoint was given %v", got)
	}
	if response := r.raw("POST", unaryPath, "0n"); response.header.Get("Grpc-Status") != "4" {
		t.Errorf("%v", response.header)
	}
	config.Routes[0].Total = 200 * time.Millisecond
	r.configure(config)
	for _, timeout := range []string{"", "1M"} {
		if response := r.raw("POST", unaryPath, timeout); response.header.Get("Grpc-Status") != "14" {
			t.Errorf("timeout %q: %v", timeout, response.header)
		}
	}
}

// Streams of every direction outlast the route's total and what the codec lets
// clients be silent for.
func TestGRPCStreamsOutlastTotal(t *testing.T) {
	const total = 200 * time.Millisecond
	r := newGRPCRig(t)
	config := usersConfig(federation.Strict)
	config.Routes[0].Total = total
	r.configure(config)
	service := &grpcService{both: func(both grpc.BidiStreamingServer[grpc_testing.StreamingOutputCallRequest, grpc_testing.StreamingOutputCallResponse]) error {
		for {
			if _, err := both.Recv(); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return err
			}
			if err := both.Send(&grpc_testing.StreamingOutputCallResponse{}); err != nil {
				return err
			}
		}
	}}
	r.register(instance("a", "az1", "v1", service.serve(t)))
	ctx := context.Background()
	both, err := r.client.FullDuplexCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	up, err := r.client.StreamingInputCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for n := range 2 {
		if n > 0 {
			time.Sleep(1200 * time.Millisecond) // longer than every bound of a request here
		}
		if err := both.Send(&grpc_testing.StreamingOutputCallRequest{}); err != nil {
			t.Fatal(err)
		}
		if _, err := both.Recv(); err != nil {
			t.Fatal(err)
		}
		if err := up.Send(&grpc_testing.StreamingInputCallRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := both.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := both.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("end: %v", err)
	}
	if answer, err := up.CloseAndRecv(); err != nil || answer.GetAggregatedPayloadSize() != 2 {
		t.Errorf("%v, %v", answer, err)
	}
}

// gRPC requests are sent again only where the status alone says that they came to
// nothing.
func TestGRPCRetries(t *testing.T) {
	fail := func(code codes.Code) func(context.Context, *grpc_testing.SimpleRequest) (*grpc_testing.SimpleResponse, error) {
		return func(context.Context, *grpc_testing.SimpleRequest) (*grpc_testing.SimpleResponse, error) {
			return nil, status.Error(code, "no")
		}
	}
	headed := func(ctx context.Context, _ *grpc_testing.SimpleRequest) (*grpc_testing.SimpleResponse, error) {
		_ = grpc.SendHeader(ctx, metadata.Pairs("x", "y"))
		return nil, status.Error(codes.Unavailable, "no")
	}
	for _, test := range []struct {
		name     string
		unary    func(context.Context, *grpc_testing.SimpleRequest) (*grpc_testing.SimpleResponse, error)
		on       RetryOn
		retries  int
		noBudget bool
		again    bool
	}{
		{name: "unavailable", unary: fail(codes.Unavailable), retries: 1, again: true},
		{name: "unavailable, no retries", unary: fail(codes.Unavailable)},
		{name: "unavailable, not wanted", unary: fail(codes.Unavailable), on: RetryAll &^ RetryUnavailable, retries: 1},
		{name: "unavailable, no budget", unary: fail(codes.Unavailable), retries: 1, noBudget: true},
		{name: "internal", unary: fail(codes.Internal), retries: 1},
		{name: "resource exhausted", unary: fail(codes.ResourceExhausted), retries: 1},
		{name: "unavailable after the head", unary: headed, retries: 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newGRPCRig(t)
			config := usersConfig(federation.Strict)
			config.Routes[0].Retries, config.Routes[0].RetryOn = test.retries, test.on
			r.configure(config)
			first, second := &grpcService{name: "first", unary: test.unary}, &grpcService{name: "second"}
			r.register(instance("a", "az1", "v1", first.serve(t)), instance("b", "az2", "v1", second.serve(t)))
			if test.noBudget {
				for r.gateway.routing.Load().services["users"].budget.take() {
				}
			}
			// With its end in the same write as its head, the request is at hand.
			response := r.raw("POST", unaryPath, "1M")
			code := response.header.Get("Grpc-Status") + response.trailer.Get("Grpc-Status")
			if again := code == "0"; again != test.again || first.calls.Load() != 1 || (second.calls.Load() == 1) != test.again {
				t.Errorf("status %s; %d and %d calls", code, first.calls.Load(), second.calls.Load())
			}
		})
	}
	// A body says that more than the status came, whoever sends that.
	plainly := newRig(t, patient(t))
	plainly.configure(usersConfig(federation.Strict))
	for body, want := range map[string]string{"": "b", "0123": "a"} {
		plainly.stage(place{"a", "az1", "v1", respondWith(fmt.Sprintf(
			"HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\ngrpc-status: 14\r\nContent-Length: %d\r\n\r\n%s", len(body), body))},
			place{"b", "az2", "v1", answering("b")})
		a := plainly.ask("POST", "/", "Content-Type: application/grpc", explain)
		if decision := a.Header.Get("x-gray-decision"); !strings.HasSuffix(decision, "instance="+want) {
			t.Errorf("body %q: %s", body, decision)
		}
	}
	// What never reached an endpoint is sent to another one, whatever it is.
	r := newGRPCRig(t)
	r.configure(usersConfig(federation.Strict))
	r.register(instance("a", "az1", "v1", refusingAddress(t)), instance("b", "az2", "v1", (&grpcService{name: "b"}).serve(t)))
	if answer, err := r.client.UnaryCall(context.Background(), &grpc_testing.SimpleRequest{}); err != nil || answer.GetUsername() != "b" {
		t.Errorf("%v, %v", answer, err)
	}
}

// UNAVAILABLE speaks against the endpoint as 503 does, other statuses do not.
func TestGRPCBreaker(t *testing.T) {
	for code, opens := range map[codes.Code]bool{codes.Unavailable: true, codes.Internal: false, codes.NotFound: false} {
		r := newGRPCRig(t)
		r.configure(breaking())
		service := &grpcService{unary: func(context.Context, *grpc_testing.SimpleRequest) (*grpc_testing.SimpleResponse, error) {
			return nil, status.Error(code, "no")
		}}
		r.register(instance("a", "az1", "v1", service.serve(t)))
		for range 3 {
			if _, err := r.client.UnaryCall(context.Background(), &grpc_testing.SimpleRequest{}); status.Code(err) != code {
				t.Fatalf("%v: %v", code, err)
			}
		}
		r.settled()
		if open := r.breaker().State() == breaker.Open; open != opens {
			t.Errorf("%v: open %v", code, open)
		}
	}
}

// A stream at an endpoint that drains is ended with a status when its time is
// over.
func TestGRPCStreamsAreDrained(t *testing.T) {
	r := newGRPCRig(t)
	r.gateway.opts.DrainTimeout = 10 * time.Second
	r.configure(usersConfig(federation.Strict))
	service := &grpcService{both: func(both grpc.BidiStreamingServer[grpc_testing.StreamingOutputCallRequest, grpc_testing.StreamingOutputCallResponse]) error {
		_ = both.Send(&grpc_testing.StreamingOutputCallResponse{})
		<-both.Context().Done()
		return both.Context().Err()
	}}
	i := instance("a", "az1", "v1", service.serve(t))
	r.register(i)
	both, err := r.client.FullDuplexCall(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := both.Recv(); err != nil {
		t.Fatal(err)
	}
	left := *i
	left.Draining = true
	r.put(&left)
	r.follow()
	now := time.Now()
	r.gateway.Refresh(now.Add(9 * time.Second))
	if n := r.endpoint("a").InFlight(); n != 1 {
		t.Errorf("%d in flight before its time is over", n)
	}
	r.gateway.Refresh(now.Add(time.Minute))
	if _, err := both.Recv(); status.Code(err) == codes.OK {
		t.Errorf("it goes on, or ended well: %v", err)
	}
	r.settled()
}

// FuzzGRPCTimeout: what is taken is what the grammar allows.
func FuzzGRPCTimeout(f *testing.F) {
	for _, seed := range []string{"1S", "99999999n", "0H", "1s", "", "-1m"} {
		f.Add(seed)
	}
	grammar := regexp.MustCompile(`^[0-9]{1,8}[HMSmun]$`)
	f.Fuzz(func(t *testing.T, text string) {
		d, ok := parseGRPCTimeout(text)
		if ok != grammar.MatchString(text) || ok && (d < 1 || d > maxGRPCTimeout) {
			t.Errorf("%q: %v, %v", text, d, ok)
		}
	})
}

package gateway

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/grayfed/grayfed/edge/observe"
	"github.com/grayfed/grayfed/edge/ratelimit"
	"github.com/grayfed/grayfed/edge/route"
	"github.com/grayfed/grayfed/federation"
)

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

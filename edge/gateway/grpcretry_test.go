package gateway

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/grayfed/grayfed/edge/breaker"
	"github.com/grayfed/grayfed/federation"
)

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

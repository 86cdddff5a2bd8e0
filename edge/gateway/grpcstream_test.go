package gateway

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"github.com/grayfed/grayfed/federation"
)

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

package http2

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// grpcOrigin is a gRPC service of every kind of call.
type grpcOrigin struct {
	pb.UnimplementedTestServiceServer
	cancelled chan struct{} // one value for each call that ended before its answer
}

func (o *grpcOrigin) UnaryCall(ctx context.Context, in *pb.SimpleRequest) (*pb.SimpleResponse, error) {
	asked, _ := metadata.FromIncomingContext(ctx)
	if err := grpc.SetHeader(ctx, metadata.Pairs("x-head", strings.Join(asked["x-ask"], ","))); err != nil {
		return nil, err
	}
	if err := grpc.SetTrailer(ctx, metadata.Pairs("x-end-bin", "\x00\xff")); err != nil {
		return nil, err
	}
	if wanted := in.GetResponseStatus(); wanted.GetCode() != 0 {
		return nil, status.Error(codes.Code(wanted.Code), wanted.Message)
	}
	if in.GetResponseSize() < 0 {
		<-ctx.Done()
		o.cancelled <- struct{}{}
		return nil, ctx.Err()
	}
	return &pb.SimpleResponse{Payload: in.GetPayload()}, nil
}

func (o *grpcOrigin) StreamingOutputCall(in *pb.StreamingOutputCallRequest, out grpc.ServerStreamingServer[pb.StreamingOutputCallResponse]) error {
	for _, p := range in.GetResponseParameters() {
		if err := out.Send(&pb.StreamingOutputCallResponse{Payload: &pb.Payload{Body: make([]byte, p.GetSize())}}); err != nil {
			return err
		}
	}
	return nil
}

func (o *grpcOrigin) StreamingInputCall(in grpc.ClientStreamingServer[pb.StreamingInputCallRequest, pb.StreamingInputCallResponse]) error {
	sum := 0
	for {
		message, err := in.Recv()
		if errors.Is(err, io.EOF) {
			return in.SendAndClose(&pb.StreamingInputCallResponse{AggregatedPayloadSize: int32(sum)})
		}
		if err != nil {
			return err
		}
		sum += len(message.GetPayload().GetBody())
	}
}

func (o *grpcOrigin) FullDuplexCall(both grpc.BidiStreamingServer[pb.StreamingOutputCallRequest, pb.StreamingOutputCallResponse]) error {
	for {
		message, err := both.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			o.cancelled <- struct{}{}
			return err
		}
		if err := both.Send(&pb.StreamingOutputCallResponse{Payload: message.GetPayload()}); err != nil {
			return err
		}
	}
}

// newGRPC is a gRPC client behind a gateway in front of a gRPC service.
func newGRPC(t *testing.T) (pb.TestServiceClient, *grpcOrigin) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	const largest = 32 << 20
	origin := &grpcOrigin{cancelled: make(chan struct{}, 10)}
	server := grpc.NewServer(grpc.MaxRecvMsgSize(largest))
	pb.RegisterTestServiceServer(server, origin)
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(listener) })
	t.Cleanup(func() {
		server.Stop()
		serving.Wait()
	})
	r := newProxy(t, &proxy{}, TransportOptions{Address: listener.Addr().String()})
	client, err := grpc.NewClient(r.address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(largest)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return pb.NewTestServiceClient(client), origin
}

func TestGRPCUnary(t *testing.T) {
	client, _ := newGRPC(t)
	ctx := metadata.AppendToOutgoingContext(context.Background(), "x-ask", "a", "x-ask", "b")
	for _, size := range []int{0, 1, 100, 20_000, 10 << 20} {
		payload := bytes.Repeat([]byte("g"), size)
		var head, tail metadata.MD
		answer, err := client.UnaryCall(ctx, &pb.SimpleRequest{Payload: &pb.Payload{Body: payload}}, grpc.Header(&head), grpc.Trailer(&tail))
		if err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		if !bytes.Equal(answer.GetPayload().GetBody(), payload) {
			t.Errorf("%d bytes: %d came back", size, len(answer.GetPayload().GetBody()))
		}
		if fmt.Sprint(head["x-head"]) != "[a,b]" || fmt.Sprintf("%q", tail["x-end-bin"]) != `["\x00\xff"]` {
			t.Errorf("header is %v, trailer %q", head, tail)
		}
	}
}

func TestGRPCStatus(t *testing.T) {
	client, _ := newGRPC(t)
	const text = "\t\nno, \u263a %% \r"
	_, err := client.UnaryCall(context.Background(), &pb.SimpleRequest{ResponseStatus: &pb.EchoStatus{Code: int32(codes.DataLoss), Message: text}})
	if got := status.Convert(err); got.Code() != codes.DataLoss || got.Message() != text {
		t.Errorf("got %v", err)
	}
	if _, err = client.UnimplementedCall(context.Background(), &pb.Empty{}); status.Code(err) != codes.Unimplemented {
		t.Errorf("got %v", err)
	}
}

func TestGRPCStreams(t *testing.T) {
	client, _ := newGRPC(t)
	ctx := context.Background()
	down, err := client.StreamingOutputCall(ctx, &pb.StreamingOutputCallRequest{ResponseParameters: []*pb.ResponseParameters{{Size: 3}, {Size: 300_000}, {Size: 0}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{3, 300_000, 0} {
		if message, err := down.Recv(); err != nil || len(message.GetPayload().GetBody()) != size {
			t.Errorf("down: %d bytes, %v", len(message.GetPayload().GetBody()), err)
		}
	}
	if _, err := down.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("down ended with %v", err)
	}

	up, err := client.StreamingInputCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{1, 500_000, 10} {
		if err := up.Send(&pb.StreamingInputCallRequest{Payload: &pb.Payload{Body: make([]byte, size)}}); err != nil {
			t.Error(err)
		}
	}
	if sum, err := up.CloseAndRecv(); err != nil || sum.GetAggregatedPayloadSize() != 500_011 {
		t.Errorf("up: %v, %v", sum, err)
	}

	both, err := client.FullDuplexCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for n := range 50 {
		word := fmt.Sprint("ping ", n)
		if err := both.Send(&pb.StreamingOutputCallRequest{Payload: &pb.Payload{Body: []byte(word)}}); err != nil {
			t.Fatal(err)
		}
		if message, err := both.Recv(); err != nil || string(message.GetPayload().GetBody()) != word {
			t.Fatalf("both: %q, %v", message.GetPayload().GetBody(), err)
		}
	}
	if err := both.CloseSend(); err != nil {
		t.Error(err)
	}
	if _, err := both.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("both ended with %v", err)
	}
}

func TestGRPCCancelAndDeadline(t *testing.T) {
	client, origin := newGRPC(t)
	ctx, cancel := context.WithCancel(context.Background())
	both, err := client.FullDuplexCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := both.Send(&pb.StreamingOutputCallRequest{}); err != nil {
		t.Error(err)
	}
	if _, err := both.Recv(); err != nil {
		t.Error(err)
	}
	cancel()
	if _, err := both.Recv(); status.Code(err) != codes.Canceled {
		t.Errorf("got %v", err)
	}
	<-origin.cancelled
	ctx, cancel = context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	_, err = client.UnaryCall(ctx, &pb.SimpleRequest{ResponseSize: -1})
	// The endpoint keeps the deadline, too, and its reset may come first; what
	// that is to a gRPC client is the gateway's to say.
	if code := status.Code(err); code != codes.DeadlineExceeded && code != codes.Unavailable {
		t.Errorf("got %v", err)
	}
	<-origin.cancelled
}

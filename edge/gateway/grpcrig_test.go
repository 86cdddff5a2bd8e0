package gateway

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"

	"github.com/grayfed/grayfed/edge/exchange"
	"github.com/grayfed/grayfed/edge/http2"
	"github.com/grayfed/grayfed/federation"
)

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

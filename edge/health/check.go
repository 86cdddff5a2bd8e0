package health

import (
	"bytes"
	"fmt"
	"io"
	"net/http"

	"github.com/grayfed/grayfed/federation"
)

// CheckKind is how an endpoint is asked whether it is well.
type CheckKind uint8

// The kinds. An instance that names a path of its own is asked by HTTP.
const (
	// CheckHTTP asks for a path.
	CheckHTTP CheckKind = iota
	// CheckGRPC calls Check of grpc.health.v1.Health for the server as a whole:
	// a plain gRPC server answers no path.
	CheckGRPC
	// CheckConnect takes a connection for an answer.
	CheckConnect
)

// Check is what the endpoints of a service are asked.
type Check struct {
	Kind CheckKind
	Path string // of CheckHTTP
}

// grpcCheckPath and the frames are the health checking protocol of gRPC
// (https://github.com/grpc/grpc/blob/master/doc/health-checking.md): a message
// is a byte that says whether it is compressed, four of length, and the message.
const grpcCheckPath = "/grpc.health.v1.Health/Check"

var (
	grpcCheckRequest = []byte{0, 0, 0, 0, 0}       // HealthCheckRequest{}
	grpcServing      = []byte{0, 0, 0, 0, 2, 8, 1} // HealthCheckResponse{status: SERVING}
)

func asksGRPC(request *http.Request) {
	request.Method = http.MethodPost
	request.Header.Set("Content-Type", "application/grpc")
	request.Header.Set("Te", "trailers")
	request.Body = io.NopCloser(bytes.NewReader(grpcCheckRequest))
	request.ContentLength = int64(len(grpcCheckRequest))
}

// servesGRPC judges the answer to asksGRPC, of which body is all.
func servesGRPC(response *http.Response, body []byte) error {
	status := response.Trailer.Get("Grpc-Status")
	if status == "" {
		status = response.Header.Get("Grpc-Status")
	}
	switch {
	case response.StatusCode != http.StatusOK:
		return fmt.Errorf("answered %d", response.StatusCode)
	case status != "0":
		return fmt.Errorf("answered gRPC status %s", federation.Quote(status))
	case !bytes.Equal(body, grpcServing):
		return fmt.Errorf("does not say SERVING")
	}
	return nil
}

package edge

import (
	"io"
	"os"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc/grpclog"
)

func TestMain(m *testing.M) {
	if what := os.Getenv(attackVariable); what != "" {
		attackForEver(what)
		return
	}
	if file := os.Getenv(childVariable); file != "" {
		runChild(file)
		return
	}
	// Before anything speaks gRPC: etcd's client does.
	grpclog.SetLoggerV2(interopLog{grpclog.NewLoggerV2(io.Discard, io.Discard, io.Discard)})
	goleak.VerifyTestMain(m)
}

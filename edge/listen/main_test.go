package listen

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if kind := os.Getenv(proxyKind); kind != "" {
		runProxy(kind) // a benchmark's other process
		return
	}
	goleak.VerifyTestMain(m)
}

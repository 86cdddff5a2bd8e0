package fault

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if address := os.Getenv(partAddress); address != "" {
		servePart(address)
		return
	}
	goleak.VerifyTestMain(m)
}

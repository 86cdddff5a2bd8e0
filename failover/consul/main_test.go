package consul

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// waiting runs the tests.
type waiting struct{ *testing.M }

func (m waiting) Run() int {
	// The tests wait for elections and time-outs much more than for
	// processors; fuzzing does not.
	flag.Parse()
	if flag.Lookup("test.fuzz").Value.String() == "" {
		if err := flag.Set("test.parallel", "8"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return m.M.Run()
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(waiting{m}) }

package registry

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/grayfed/grayfed/registry/etcdtest"
)

// sharedEtcd is the endpoint of the etcd that most tests share, a prefix each.
var sharedEtcd string

// withEtcd runs the tests beside one etcd.
type withEtcd struct{ *testing.M }

func (m withEtcd) Run() int {
	dir, err := os.MkdirTemp("", "registry-etcd")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	server, err := etcdtest.Run(dir, nil)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer server.Close()
	sharedEtcd = etcdtest.Address(server)
	// The tests wait for leases and time-outs much more than for processors.
	flag.Parse()
	if err := flag.Set("test.parallel", "4"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.M.Run()
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(withEtcd{m}) }

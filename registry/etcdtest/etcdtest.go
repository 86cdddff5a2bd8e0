// Package etcdtest runs real etcd members for tests.
package etcdtest

import (
	"fmt"
	"net/url"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

// patience bounds the wait for a member that elects itself; it takes a tenth of
// a second where nothing else runs.
const patience = 20 * time.Second

// Start starts a member with a data folder and ports of its own, which ends
// with the test, or by stop before that. The test fails when it does not start.
func Start(t testing.TB) (endpoint string, stop func()) {
	t.Helper()
	server, err := Run(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(server.Close)
	t.Cleanup(stop)
	return "http://" + Address(server), stop
}

// Run starts a member, the only one of its cluster, on ports of its own, and
// waits until it serves; the caller closes it. Its data is in dir; edit, which
// may be nil, changes its settings. Its short election timeout is what allows
// leases of one second.
func Run(dir string, edit func(*embed.Config)) (*embed.Etcd, error) {
	cfg := embed.NewConfig()
	cfg.Dir = dir
	cfg.TickMs, cfg.ElectionMs = 10, 100
	cfg.UnsafeNoFsync = true
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	anyPort := []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = anyPort, anyPort
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = anyPort, anyPort
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	if edit != nil {
		edit(cfg)
	}
	server, err := embed.StartEtcd(cfg)
	if err != nil {
		return nil, fmt.Errorf("start etcd: %w", err)
	}
	select {
	case <-server.Server.ReadyNotify():
		return server, nil
	case <-time.After(patience):
		server.Close()
		return nil, fmt.Errorf("start etcd: not ready within %s", patience)
	}
}

// Address is where clients reach a member: host:port.
func Address(server *embed.Etcd) string { return server.Clients[0].Addr().String() }

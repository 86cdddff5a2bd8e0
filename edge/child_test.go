package edge

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/grayfed/grayfed/edge/api"
	"github.com/grayfed/grayfed/edge/config"
)

// childVariable names the settings of the edge that this program is to be
// instead of running tests: one that can be killed.
const childVariable = "GRAYFED_TEST_EDGE"

// runChild is the whole program of a child.
func runChild(file string) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	err := func() error {
		p, err := config.LoadProcess(file)
		if err != nil {
			return err
		}
		e, err := New(ctx, Options{Process: p, Version: "test", Output: os.Stderr})
		if err != nil {
			return err
		}
		return e.Run(ctx)
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// child is an edge in a process of its own.
type child struct {
	t       testing.TB
	process *os.Process
	api     *api.Client
	data    string // address of its data listener
	kill    func()
}

// startChild runs an edge with settings of this package's rig. Its ports are
// fixed, since nobody is told those of a child.
func startChild(t testing.TB, p *config.Process) *child {
	t.Helper()
	p.Listen.Address, p.Admin.Address = "127.0.0.1:"+freePort(t), "127.0.0.1:"+freePort(t)
	text := fmt.Sprintf(`{
  id: %q, zone: %q, region: %q, data_dir: %q, documents: %q,
  listen: { address: %q }, admin: { address: %q }, etcd: { endpoints: [%q] },
  gossip: { bind: %q, peers: [%s] }, log: { access: off }, shutdown: { drain_timeout: 5s },
`, p.ID, p.Zone, p.Region, p.DataDir, p.Documents, p.Listen.Address, p.Admin.Address, p.Etcd.Endpoints[0],
		p.Gossip.Bind, quoted(p.Gossip.Peers))
	if f := p.Failover; f != nil {
		text += fmt.Sprintf(
			"  failover: { role: %s, weight: %d, heartbeat: %s, misses: %d, hold: %s, steps: [100], step_every: %s, addresses: [%s], port: %d },\n",
			f.Role, f.Weight, f.Heartbeat, f.Misses, f.Hold, f.StepEvery, f.Addresses[0], f.Port)
	}
	if p.Peer.Address != "" {
		text += fmt.Sprintf("  reach: %s, peer: { address: %q, tls: { ca_file: %q, cert_file: %q, key_file: %q } },\n",
			p.Reach, p.Peer.Address, p.Peer.TLS.CAFile, p.Peer.TLS.CertFile, p.Peer.TLS.KeyFile)
	}
	if p.Consul != nil {
		text += fmt.Sprintf("  consul: { address: %q },\n", p.Consul.Address)
	}
	file := filepath.Join(t.TempDir(), "edge.yaml")
	writeFile(t, file, text+"}\n")
	log := &lockedBuffer{}
	command := exec.Command(os.Args[0])
	command.Env = append(os.Environ(), childVariable+"="+file)
	command.Stdout, command.Stderr = log, log
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	c := &child{t: t, process: command.Process, data: p.Listen.Address}
	c.kill = sync.OnceFunc(func() {
		_ = command.Process.Kill()
		_ = command.Wait() // killed
	})
	var err error
	if c.api, err = api.NewClient(api.ClientOptions{URL: "http://" + p.Admin.Address}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.api.Close()
		c.kill()
		if t.Failed() {
			t.Logf("log of %s:\n%s", p.ID, log.String())
		}
	})
	return c
}

func quoted(list []string) (text string) {
	for n, item := range list {
		if n > 0 {
			text += ", "
		}
		text += fmt.Sprintf("%q", item)
	}
	return text
}

func (c *child) ready() {
	c.t.Helper()
	eventually(c.t, "edge ready", func() error { return c.api.Ready(c.t.Context()) })
}

// signal freezes it, or lets it go on.
func (c *child) signal(signal os.Signal) {
	c.t.Helper()
	if err := c.process.Signal(signal); err != nil {
		c.t.Fatal(err)
	}
}

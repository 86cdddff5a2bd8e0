package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// consulPort is where an agent is asked, by its own node alone.
const consulPort = 8500

// consulCache is where `make consul` puts the agent, below the checkout.
const consulCache = ".cache/consul/consul"

// consulOldest is the least minor version of Consul 1 whose settings and API
// the lab knows to work.
const consulOldest = 8

// findConsul returns the agent's program: the one on PATH, else the one that
// this checkout fetched.
func findConsul() (string, error) {
	var unfit error
	if path, err := exec.LookPath("consul"); err == nil {
		if path, err = filepath.Abs(path); err != nil {
			return "", fmt.Errorf("find the Consul agent: %w", err)
		}
		if unfit = checkConsul(path); unfit == nil {
			return path, nil
		}
	}
	folder, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the Consul agent: %w", err)
	}
	for {
		path := filepath.Join(folder, consulCache)
		if executable(path) == nil {
			return path, nil
		}
		parent := filepath.Dir(folder)
		if parent == folder {
			return "", lackConsul(unfit)
		}
		folder = parent
	}
}

// lackConsul says how to get the agent, and what is unfit about the one on PATH.
func lackConsul(unfit error) error {
	how := fmt.Errorf("a lab in network namespaces needs the Consul agent: "+
		"run `make consul` in grayfed's checkout and start the lab there, or put a consul of 1.%d or later on PATH", consulOldest)
	if unfit != nil {
		return fmt.Errorf("%w; the one there does not do: %w", how, unfit)
	}
	return how
}

// checkConsul reports a program that is not a Consul new enough.
func checkConsul(path string) error {
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	command := exec.CommandContext(ctx, path, "version")
	command.WaitDelay = time.Second // whom it started may hold its output open
	said, err := command.Output()
	if err != nil {
		return fmt.Errorf("%s version: %w", path, err)
	}
	first, _, _ := strings.Cut(string(said), "\n")
	var major, minor int
	if _, err := fmt.Sscanf(first, "Consul v%d.%d", &major, &minor); err != nil {
		return fmt.Errorf("%s is no Consul: asked for its version it says %s", path, strconv.Quote(first[:min(len(first), 100)]))
	}
	if major < 1 || major == 1 && minor < consulOldest {
		return fmt.Errorf("%s is %s", path, first)
	}
	return nil
}

// equipConsul writes the settings of one server. There is one in every node,
// five with two witnesses: three of them decide, so that the quorum outlives
// both primaries.
func (l *Lab) equipConsul(p *part) error {
	var servers []string
	for _, node := range l.Nodes() {
		servers = append(servers, l.host(node))
	}
	folder := filepath.Join(l.dir, p.node, "consul")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return fmt.Errorf("folder of %s's Consul: %w", p.node, err)
	}
	// What decides how fast it is, is as in deploy/consul, which explains it.
	settings, err := json.MarshalIndent(map[string]any{
		"server": true, "bootstrap_expect": len(servers), "retry_join": servers, "retry_interval": "1s",
		"datacenter": "lab", "node_name": p.node, "data_dir": filepath.Join(folder, "data"),
		"bind_addr": l.host(p.node), "client_addr": "127.0.0.1", "ports": map[string]int{"dns": -1, "serf_wan": -1},
		"performance": map[string]any{"raft_multiplier": 1, "rpc_hold_timeout": "1s"},
		"gossip_lan": map[string]any{
			"probe_interval": "200ms", "probe_timeout": "100ms", "gossip_interval": "50ms", "suspicion_mult": 3, "retransmit_mult": 20,
		},
		"autopilot":            map[string]any{"cleanup_dead_servers": false},
		"disable_update_check": true, "log_level": "err",
	}, "", "  ")
	if err != nil {
		return fmt.Errorf("settings of %s's Consul: %w", p.node, err)
	}
	file := filepath.Join(folder, "agent.json")
	p.address, p.args = loopback(consulPort), []string{"agent", "-config-file", file}
	return replace(file, settings)
}

// consulLeads reports a Consul server that has no leader, or not all others.
func (l *Lab) consulLeads(ctx context.Context) error {
	for _, node := range l.Nodes() {
		var leader string
		if err := l.inside(ctx, node, http.MethodGet, loopback(consulPort), "/v1/status/leader", nil, &leader); err != nil {
			return fmt.Errorf("%s's Consul: %w", node, err)
		}
		var peers []string
		if err := l.inside(ctx, node, http.MethodGet, loopback(consulPort), "/v1/status/peers", nil, &peers); err != nil {
			return fmt.Errorf("%s's Consul: %w", node, err)
		}
		if leader == "" || len(peers) != len(l.Nodes()) {
			return fmt.Errorf("%s's Consul knows %d of %d servers, and the leader %q", node, len(peers), len(l.Nodes()), leader)
		}
	}
	return nil
}

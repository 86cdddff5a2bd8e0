package consul

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/grayfed/grayfed/failover"
	"github.com/grayfed/grayfed/failover/consul/consultest"
)

// deployed is where the files for real deployments are.
const deployed = "../../deploy/consul"

// machines are those of deploy/consul/machines with their addresses.
var machines = []struct{ name, address string }{
	{"az1", "192.0.2.11"}, {"az2", "192.0.2.12"}, {"az3", "198.51.100.13"}, {"w1", "203.0.113.14"}, {"w2", "203.0.113.15"},
}

// policy returns the rules of deploy/consul.
func policy(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(deployed, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestDeployedFilesAreValid(t *testing.T) {
	t.Parallel()
	binary := consultest.Binary(t)
	for _, m := range machines {
		for _, files := range [][]string{{"agent.hcl", "server.hcl", "tls.hcl"}, {"agent.hcl"}} {
			args := []string{"validate"}
			for _, file := range append(files, "machines/"+m.name+".hcl") {
				args = append(args, filepath.Join(deployed, file))
			}
			if out, err := exec.Command(binary, args...).CombinedOutput(); err != nil {
				t.Errorf("%v: %v: %s", args, err, out)
			}
		}
	}
}

// The files as they are run five servers here; only the addresses and the
// folder of the certificates are others.
func TestDeployedFilesRun(t *testing.T) {
	t.Parallel()
	certificates := consultest.Issue(t)
	dir := t.TempDir()
	cluster := consultest.Start(t, len(machines), consultest.Options{
		ACL:        true,
		AgentRules: policy(t, "agent-policy.hcl"),
		Files: func(i int, addresses []string) (files []string) {
			replace := []string{
				"/etc/consul.d/tls/ca.pem", certificates.CA,
				"/etc/consul.d/tls/agent.pem", certificates.ServerCert,
				"/etc/consul.d/tls/agent-key.pem", certificates.ServerKey,
			}
			for j, m := range machines {
				replace = append(replace, m.address, addresses[j])
			}
			for _, file := range []string{"agent.hcl", "server.hcl", "tls.hcl", "machines/" + machines[i].name + ".hcl"} {
				text := strings.NewReplacer(replace...).Replace(policy(t, file))
				path := filepath.Join(dir, fmt.Sprintf("%d-%s", i, filepath.Base(file)))
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
				files = append(files, path)
			}
			return files
		},
	})

	self, err := cluster.Client(0).Agent().Self()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]any{
		"ConsulRaftElectionTimeout": "1s", "RPCHoldTimeout": "1s", "GossipLANProbeInterval": "200ms",
		"AutopilotCleanupDeadServers": false, "ACLDefaultPolicy": "deny", "VerifyServerHostname": true,
	} {
		if got, there := self["DebugConfig"][name]; there && got != want { // what is told of it is each version's own
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}

	token := tokenFile(t, cluster.Token("edge", policy(t, "edge-policy.hcl")))
	edge := func(i int, role failover.Role) *running {
		name := machines[i].name
		e := start(t, Options{Address: cluster.Address(i), TokenFile: token, Edge: name, Entry: entryOf(name, role)})
		e.Set(failover.Decision{In: role == failover.Primary, Weight: 50})
		return e
	}
	edge(0, failover.Primary)
	edge(1, failover.Primary)
	standby := edge(2, failover.Standby)
	standby.sees("az1", 50, true)
	standby.sees("az2", 50, true)

	// Both primary zones die, Consul servers and all: with the witnesses there
	// is still a leader, who says so.
	cluster.Kill(0)
	cluster.Kill(1)
	standby.sees("az1", 50, false)
	standby.sees("az2", 50, false)
	standby.Set(failover.Decision{In: true, Weight: 50})
	standby.sees("az3", 50, true)
}

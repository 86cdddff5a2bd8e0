package consultest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
)

// agentRules let an agent keep its node and see what is registered there.
const agentRules = `node_prefix "" { policy = "write" } service_prefix "" { policy = "read" }`

// settle bounds what a test waits for; a cluster takes a second or two.
const settle = 30 * time.Second

// Options of a cluster. The zero value is one without ACL and TLS.
type Options struct {
	// ACL denies what no token allows; [Cluster.Client] has one that may do
	// all.
	ACL bool
	// TLS serves the API by HTTPS alone, to clients with a certificate of
	// the authority in [Cluster.Files].
	TLS bool
	// Files of settings of server i, from 0, whose address and those of all
	// are given; they take the place of the cluster's own settings but for
	// its folder and addresses. nil: none.
	Files func(i int, addresses []string) []string
	// AgentRules are those of the agents' own tokens, with ACL; "": enough.
	AgentRules string
}

// Cluster is Consul servers on loopback addresses of their own, so that all
// have the ports of a real one and none meets those of another test.
type Cluster struct {
	// Files are the authority and the client certificate, with TLS.
	Files Files

	t       testing.TB
	options Options
	binary  string
	version version
	network [2]byte // 127.a.b.n is server n's
	token   string  // of management, with ACL
	servers []*server
}

// server is one agent, running or not.
type server struct {
	name, address, dir string
	command            *exec.Cmd
}

// Start runs so many servers and waits until they have a leader. They end with
// the test.
func Start(t testing.TB, servers int, o Options) *Cluster {
	t.Helper()
	c := &Cluster{t: t, options: o, network: reserve(t)}
	c.binary, c.version = find(t)
	if o.TLS {
		c.Files = Issue(t, c.address(1))
	}
	for i := range servers {
		c.servers = append(c.servers, &server{
			name:    fmt.Sprintf("server-%d", i+1),
			address: c.address(i + 1),
			dir:     t.TempDir(),
		})
	}
	t.Cleanup(func() {
		for i := range c.servers {
			c.Kill(i)
		}
	})
	for i := range c.servers {
		c.Restart(i)
	}
	for i := range c.servers {
		c.WaitLeader(i)
	}
	if o.ACL {
		c.bootstrap()
	}
	return c
}

// reserve returns a network that no other cluster has until the test ends: who
// has one listens at its last address.
func reserve(t testing.TB) [2]byte {
	t.Helper()
	var err error
	for range 100 {
		network := [2]byte{byte(64 + rand.N(128)), byte(rand.N(256))}
		var taken net.Listener
		if taken, err = net.Listen("tcp", fmt.Sprintf("127.%d.%d.255:8500", network[0], network[1])); err == nil {
			t.Cleanup(func() { _ = taken.Close() })
			return network
		}
	}
	t.Fatalf("there is no free network: %v", err)
	return [2]byte{}
}

func (c *Cluster) address(n int) string {
	return fmt.Sprintf("127.%d.%d.%d", c.network[0], c.network[1], n)
}

func (c *Cluster) addresses() []string {
	all := make([]string, len(c.servers))
	for i, s := range c.servers {
		all[i] = s.address
	}
	return all
}

// Address is the URL of server i's API, i from 0.
func (c *Cluster) Address(i int) string {
	if c.options.TLS {
		return "https://" + c.servers[i].address + ":8501"
	}
	return "http://" + c.servers[i].address + ":8500"
}

// Node is the name of server i's node.
func (c *Cluster) Node(i int) string { return c.servers[i].name }

// Client is a client of server i that may do all and keeps no connection.
func (c *Cluster) Client(i int) *api.Client {
	c.t.Helper()
	transport := &http.Transport{DisableKeepAlives: true}
	if c.options.TLS {
		transport.TLSClientConfig = c.Files.config(c.t)
	}
	client, err := api.NewClient(&api.Config{
		Address:    c.Address(i),
		Token:      c.token,
		HttpClient: &http.Client{Transport: transport, Timeout: settle},
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return client
}

// Kill ends server i at once, as a crash does. It is no error when it has
// ended.
func (c *Cluster) Kill(i int) {
	s := c.servers[i]
	if s.command == nil {
		return
	}
	_ = s.command.Process.Kill()
	_ = s.command.Wait()
	s.command = nil
	if c.t.Failed() {
		if log, err := os.ReadFile(s.dir + "/log"); err == nil {
			c.t.Logf("log of %s:\n%s", s.name, log[max(0, len(log)-4<<10):])
		}
	}
}

// Freeze stops server i where it is: its connections stay and nothing answers.
func (c *Cluster) Freeze(i int) { c.signal(i, syscall.SIGSTOP) }

// Thaw lets a frozen server go on.
func (c *Cluster) Thaw(i int) { c.signal(i, syscall.SIGCONT) }

func (c *Cluster) signal(i int, signal os.Signal) {
	c.t.Helper()
	if err := c.servers[i].command.Process.Signal(signal); err != nil {
		c.t.Fatal(err)
	}
}

// Wipe removes all that server i knew. It must have been killed.
func (c *Cluster) Wipe(i int) {
	c.t.Helper()
	if err := os.RemoveAll(c.servers[i].dir + "/data"); err != nil {
		c.t.Fatal(err)
	}
}

// Restart starts server i, which does not run, with what it knew.
func (c *Cluster) Restart(i int) {
	c.t.Helper()
	s := c.servers[i]
	file := filepath.Join(s.dir, "agent.json")
	text, err := json.MarshalIndent(c.config(s), "", "  ")
	if err != nil {
		c.t.Fatal(err)
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		c.t.Fatal(err)
	}
	log, err := os.OpenFile(s.dir+"/log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	args := []string{"agent"}
	if c.options.Files != nil {
		for _, path := range c.options.Files(i, c.addresses()) {
			args = append(args, "-config-file="+path)
		}
	}
	command := exec.Command(c.binary, append(args, "-config-file="+file)...)
	command.Stdout, command.Stderr = log, log
	// No agent outlives a test that is killed. Of the machine's settings of
	// Consul none must reach it.
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	command.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.dir}
	if err := command.Start(); err != nil {
		c.t.Fatal(err)
	}
	s.command = command
}

func (c *Cluster) config(s *server) map[string]any {
	if c.options.Files != nil {
		return map[string]any{"node_name": s.name, "data_dir": s.dir + "/data", "bind_addr": s.address, "client_addr": s.address}
	}
	ports := map[string]int{"dns": -1, "serf_wan": -1}
	if !c.version.before(version{1, 14, 0}) {
		ports["grpc_tls"] = -1
	}
	config := map[string]any{
		"server":               true,
		"bootstrap_expect":     len(c.servers),
		"node_name":            s.name,
		"data_dir":             s.dir + "/data",
		"bind_addr":            s.address,
		"client_addr":          s.address,
		"retry_join":           c.addresses(),
		"retry_interval":       "200ms",
		"log_level":            "warn",
		"disable_update_check": true,
		// A server that is killed comes back with the same name and address:
		// it stays a voter meanwhile, so that the quorum is that of all.
		"autopilot":   map[string]any{"cleanup_dead_servers": false},
		"performance": map[string]any{"raft_multiplier": 1, "rpc_hold_timeout": "1s"},
		"gossip_lan":  map[string]any{"probe_interval": "200ms", "probe_timeout": "100ms", "gossip_interval": "50ms", "suspicion_mult": 3, "retransmit_mult": 20},
		"ports":       ports,
	}
	if c.options.ACL {
		config["acl"] = map[string]any{"enabled": true, "default_policy": "deny", "enable_token_persistence": true}
	}
	if c.options.TLS {
		ports["http"], ports["https"] = -1, 8501
		config["ca_file"], config["cert_file"], config["key_file"] = c.Files.CA, c.Files.ServerCert, c.Files.ServerKey
		config["verify_incoming_https"] = true
	}
	return config
}

// WaitLeader waits until server i proves that it knows a leader.
func (c *Cluster) WaitLeader(i int) {
	c.t.Helper()
	client := c.Client(i)
	c.wait("a leader", func() error {
		// Nothing but a consistent read proves one: the address of a leader
		// that was is told for a while.
		_, _, err := client.Catalog().Nodes(&api.QueryOptions{RequireConsistent: true, Token: c.token})
		return err
	})
}

// bootstrap makes the management token and gives every agent one of its own.
func (c *Cluster) bootstrap() {
	c.t.Helper()
	client := c.Client(0)
	c.wait("ACL", func() error {
		token, _, err := client.ACL().Bootstrap()
		if err != nil {
			return err
		}
		c.token = token.SecretID
		return nil
	})
	for i, s := range c.servers {
		agent := c.Token(s.name, cmp.Or(c.options.AgentRules, agentRules))
		c.wait("a token of the agent", func() error {
			_, err := c.Client(i).Agent().UpdateAgentACLToken(agent, nil)
			return err
		})
	}
}

// Token makes a token that may do what the rules say.
func (c *Cluster) Token(name, rules string) string {
	c.t.Helper()
	acl := c.Client(0).ACL()
	if _, _, err := acl.PolicyCreate(&api.ACLPolicy{Name: name, Rules: rules}, nil); err != nil {
		c.t.Fatal(err)
	}
	token, _, err := acl.TokenCreate(&api.ACLToken{Policies: []*api.ACLTokenPolicyLink{{Name: name}}}, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	return token.SecretID
}

func (c *Cluster) wait(what string, try func() error) {
	c.t.Helper()
	deadline := time.Now().Add(settle)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("wait for %s: %v", what, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

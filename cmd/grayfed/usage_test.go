package main

import (
	"context"
	"net"
	"strings"
	"testing"
)

// TestCalledTheWrongWay: one line that says what to do, exit code 2, and no
// page of help.
func TestCalledTheWrongWay(t *testing.T) {
	register := []string{"register", "--service", "s", "--zone", "z", "--port", "1"}
	for _, c := range []struct {
		args []string
		says []string
	}{
		{[]string{"serve"}, []string{`no command "serve"`, "edge", "validate"}},
		{[]string{"valdate"}, []string{"did you mean validate?"}},
		{[]string{"--nope"}, []string{"--nope"}},
		{[]string{"version", "1"}, []string{"grayfed version takes flags only", "1"}},
		{[]string{"edge"}, []string{"-c edge.yaml"}},
		{[]string{"edge", "edge.yaml"}, []string{"takes flags only", "edge.yaml"}},
		{[]string{"get"}, []string{"federation", "services", "instances", "releases", "routes"}},
		{[]string{"get", "pods"}, []string{`no command "pods"`, "instances"}},
		{[]string{"get", "services", "-o", "xml"}, []string{"xml", "table, json or yaml"}},
		{[]string{"get", "services", "--edge", "127.0.0.1:9081"}, []string{"127.0.0.1:9081", "http://host:port"}},
		{[]string{"get", "instances", "a", "b"}, []string{"one service"}},
		{[]string{"explain"}, []string{"grayfed explain /"}},
		{[]string{"explain", "/", "--header", "x"}, []string{"--header", "NAME:VALUE"}},
		{[]string{"explain", "/", "--header", "x:1", "--header", "x:2"}, []string{"--header", "twice"}},
		{[]string{"drain"}, []string{"SERVICE/ID"}},
		{[]string{"drain", "az1-v1"}, []string{"SERVICE/ID", "az1-v1"}},
		{[]string{"drain", "a/b/c"}, []string{"SERVICE/ID", "a/b/c"}},
		{[]string{"validate"}, []string{"grayfed validate edge.yaml"}},
		{[]string{"dev", "now"}, []string{"takes flags only"}},
		{[]string{"dev", "--for", "-5s"}, []string{"--for", "-5s"}},
		{[]string{"dev", "--reach", "gateway"}, []string{"--reach", "--namespaces"}},
		{[]string{"dev", "--reach", "direct", "--namespaces=false"}, []string{"--reach", "--namespaces"}},
		{[]string{"dev", "--namespaces", "--data-ports", "1,2,3"}, []string{"--data-ports", "--namespaces"}},
		{[]string{"dev", "--namespaces", "--admin-ports", "1,2,3"}, []string{"--admin-ports", "--namespaces"}},
		{[]string{"dev", "--namespaces", "--gossip-ports", "1,2,3"}, []string{"--gossip-ports", "--namespaces"}},
		{[]string{"dev", "--namespaces", "--dns-ports", "1,2,3"}, []string{"--dns-ports", "--namespaces"}},
		{[]string{"dev", "--namespaces", "--etcd-port", "1"}, []string{"--etcd-port", "--namespaces"}},
		{[]string{"dev", "--namespaces", "--etcd-peer-port", "1"}, []string{"--etcd-peer-port", "--namespaces"}},
		{[]string{"register"}, []string{"after --"}},
		{append(register, "--"), []string{"after --"}},
		{append(register, "true"), []string{"after --"}},
		{append(register, "true", "--", "-x"), []string{"after --"}},
		{[]string{"register", "--", "true"}, []string{"--service NAME"}},
		{[]string{"register", "--service", "s", "--", "true"}, []string{"--zone NAME"}},
		{[]string{"register", "--service", "s", "--zone", "z", "--", "true"}, []string{"--port N", "--address IP:PORT"}},
		{append(register, "--address", "10.0.0.1:1", "--", "true"), []string{"--port N", "--address IP:PORT"}},
		{append(register, "--ttl", "1ms", "--", "true"), []string{"--ttl", "1ms", "1s to 24h"}},
		{append(register, "--ttl", "0", "--", "true"), []string{"ttl is 0s"}},
		{append(register, "--tag", "x", "--", "true"), []string{"--tag", "NAME=VALUE"}},
		{append(register, "--tag", "x=1", "--tag", "x=2", "--", "true"), []string{"--tag", "twice"}},
		{append(register, "--tag", "!=1", "--", "true"), []string{"--tag", "!"}},
		{append(register, "--id", "a b", "--", "true"), []string{"--id", "a b"}},
		{append(register, "--weight", "1001", "--", "true"), []string{"--weight", "0 to 1000"}},
		{append(register, "--health-path", "x", "--", "true"), []string{"--health-path", "beginning with /"}},
		{append(register, "--wait", "x", "--", "true"), []string{"--wait", "beginning with /"}},
		{append(register, "--edges", "edge", "--", "true"), []string{"--edges", "http://host:port"}},
		{append(register, "--edges", "http://127.0.0.1:1,edge", "--", "true"), []string{"edge", "http://host:port"}},
		{[]string{"register", "--service", "s", "--zone", "z", "--port", "65536", "--", "true"}, []string{"--port", "65535"}},
		{[]string{"register", "--service", "s", "--zone", "z", "--address", "localhost:1", "--", "true"}, []string{"--address", "IP address"}},
	} {
		var stdout, stderr strings.Builder
		code := run(context.Background(), c.args, &stdout, &stderr)
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			refused(t, result{stdout.String(), stderr.String(), code}, 2, c.says...)
		})
	}
}

func TestNoEdge(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := "http://" + l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"get", "federation"}, {"get", "instances", "x"}, {"explain", "/"}, {"drain", "a/b", "c/d"},
	} {
		refused(t, grayfed(t, append(args, "--edge", gone)...), 1, gone, "connection refused", "is the edge running?")
	}
}

func TestVersion(t *testing.T) {
	for _, args := range [][]string{{"version"}, {"--version"}, {"version", "-o", "json"}} {
		if got := grayfed(t, args...); got.code != 0 || !strings.Contains(got.stdout, "v0.0-test") {
			t.Errorf("%v: %+v", args, got)
		}
	}
}

// TestHelp: every command that is shown has an example, and the others are
// hidden.
func TestHelp(t *testing.T) {
	got := grayfed(t)
	if got.code != 0 {
		t.Errorf("%+v", got)
	}
	for _, name := range []string{"dev", "edge", "register", "get", "explain", "drain", "validate", "version", "completion"} {
		if !strings.Contains(got.stdout, "\n  "+name+" ") {
			t.Errorf("%s is not in\n%s", name, got.stdout)
		}
	}
	if strings.Contains(got.stdout, "dev-etcd") {
		t.Errorf("a child of dev is shown in\n%s", got.stdout)
	}
	for _, command := range newRootCommand().Commands() {
		if command.Hidden {
			continue
		}
		for _, c := range append(command.Commands(), command) {
			if c.Example == "" || !strings.Contains(c.Example, "  grayfed "+command.Name()) {
				t.Errorf("%s has no example", c.CommandPath())
			}
		}
	}
}

func TestCompletion(t *testing.T) {
	edge := newStandIn(t, false)
	for _, c := range []struct {
		args []string
		want string // what is offered, and the directive
	}{
		{[]string{"get", ""}, "failover federation instances releases routes services :4"},
		{[]string{"get", "services", "-o", ""}, "table json yaml :4"},
		{[]string{"get", "instances", "--edge", edge.URL, ""}, "idle-service user-service :4"},
		{[]string{"get", "instances", "user-service", "--edge", edge.URL, ""}, ":4"},
		{[]string{"drain", "--edge", edge.URL, ""}, "idle-service/ user-service/ :6"},
		{[]string{"drain", "--edge", edge.URL, "user-service/"}, "user-service/az1-v1 user-service/az1-v2-beta user-service/odd user-service/az2-v1 :4"},
		{[]string{"explain", "--edge", edge.URL, "--tag", ""}, "v2-beta v3 :4"},
		{[]string{"drain", "--edge", "http://127.0.0.1:1", ""}, ":4"},
		{[]string{"edge", "-c", ""}, "yaml yml :8"},
	} {
		got := grayfed(t, append([]string{"__complete"}, c.args...)...)
		var offered []string
		for line := range strings.Lines(got.stdout) {
			word, _, _ := strings.Cut(strings.TrimSpace(line), "\t")
			offered = append(offered, word)
		}
		if text := strings.Join(offered, " "); text != c.want {
			t.Errorf("%v: offered %q, want %q", c.args, text, c.want)
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if got := grayfed(t, "completion", shell); got.code != 0 || !strings.Contains(got.stdout, "grayfed") {
			t.Errorf("%s: exit code %d", shell, got.code)
		}
	}
}

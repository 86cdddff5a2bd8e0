package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

func TestDevServesTheTour(t *testing.T) {
	d := startDev(t)
	for zone, cases := range []map[string]struct{ version, zone string }{
		{"": {"v1", "az1"}, "v2-beta": {"v2-beta", "az1"}, "no-such-tag": {"v1", "az1"}},
		{"": {"v1", "az2"}, "v2-beta": {"v2-beta", "az2"}},
		{"": {"v1", "az3"}, "v2-beta": {"v2-beta", ""}},
	} {
		for tag, want := range cases {
			var header []string
			if tag != "" {
				header = []string{"x-release-tag", tag, "x-gray-explain", "1"}
			}
			got, answered, err := d.ask(http.DefaultClient, zone, header...)
			if err != nil {
				t.Fatalf("zone %d, tag %q: %v", zone, tag, err)
			}
			if got.Service != "user-service" || got.Version != want.version || want.zone != "" && got.Zone != want.zone || got.Instance == "" {
				t.Errorf("zone %d, tag %q: answered by %+v, want %+v", zone, tag, got, want)
			}
			if explained := answered.Get("x-gray-decision") != ""; explained != (tag != "") {
				t.Errorf("zone %d, tag %q: x-gray-decision present %v", zone, tag, explained)
			}
		}
	}
	for _, server := range d.dns {
		resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, server)
		}}
		if got, err := resolver.LookupHost(t.Context(), "gateway.grayfed.test."); err != nil || len(got) != 1 || got[0] != "127.0.0.1" {
			t.Errorf("%s resolves the gateway to %q, %v", server, got, err)
		}
	}
	var fed struct {
		Edges []struct{ ID, Zone, Status string } `json:"edges"`
	}
	d.get(0, "/v1/federation", &fed)
	if len(fed.Edges) != 3 {
		t.Errorf("az1 knows the edges %+v", fed.Edges)
	}

	if err := d.command.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := d.wait(); err != nil {
		t.Errorf("Ctrl-C: %v", err)
	}
	if left := d.processes(); len(left) > 0 {
		t.Errorf("left processes behind: %v", left)
	}
}

// TestDevCanariesOfAZoneDie kills the canary of az1 under a steady stream of
// tagged requests: none may fail and none may be answered by another version.
func TestDevCanariesOfAZoneDie(t *testing.T) {
	d := startDev(t)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var mu sync.Mutex
	byZone := make(map[string]int)
	for range 8 {
		client := &http.Client{Transport: &http.Transport{}}
		wg.Go(func() {
			defer client.CloseIdleConnections()
			for {
				select {
				case <-stop:
					return
				default:
				}
				got, _, err := d.ask(client, 0, "x-release-tag", "v2-beta")
				if err != nil || got.Version != "v2-beta" {
					t.Errorf("tagged request: %+v, %v", got, err)
					return
				}
				mu.Lock()
				byZone[got.Zone]++
				mu.Unlock()
			}
		})
	}
	served := func(zone string, least int) func() error {
		return func() error {
			mu.Lock()
			defer mu.Unlock()
			if byZone[zone] < least {
				return fmt.Errorf("%s answered %d requests of %v", zone, byZone[zone], byZone)
			}
			return nil
		}
	}
	eventually(t, "az1 serves its own canaries", served("az1", 200))
	d.kill("dev-instance", "--zone az1", "--version v2-beta")
	mu.Lock()
	before := byZone["az2"]
	mu.Unlock()
	eventually(t, "az2 takes over", served("az2", before+500))
	close(stop)
	wg.Wait()

	d.kill("dev-instance", "--zone az2", "--version v2-beta")
	eventually(t, "the permissive release falls back to the baseline", func() error {
		got, _, err := d.ask(http.DefaultClient, 0, "x-release-tag", "v2-beta")
		if err == nil && got.Version != "v1" {
			err = fmt.Errorf("answered by %+v", got)
		}
		return err
	})
}

// TestDevIsSteered asks and steers real edges by command.
func TestDevIsSteered(t *testing.T) {
	d := startDev(t)
	to := func(zone int, args ...string) result {
		t.Helper()
		got := grayfed(t, append(args, "--edge", d.admin[zone])...)
		if got.code != 0 {
			t.Errorf("%v: %s", args, got.stderr)
		}
		return got
	}
	has := func(got result, lines ...string) {
		t.Helper()
		for _, line := range lines {
			if !slices.ContainsFunc(strings.Split(got.stdout, "\n"), func(said string) bool { return containsAll(said, strings.Fields(line)) }) {
				t.Errorf("%q is not in\n%s", line, got.stdout)
			}
		}
	}
	eventually(t, "az2's edge knows all edges", func() error {
		if got := to(1, "get", "federation"); strings.Count(got.stdout, " alive ") != 3 {
			return errors.New(got.stdout)
		}
		return nil
	})
	has(to(1, "get", "federation"), "az1-edge az1 east alive", "az2-edge* az2 east alive", "az3-edge az3 south alive")
	has(to(2, "get", "services"), "user-service 5 v1:3 v2-beta:2 az1:2 az2:2 az3:1 version=v1")
	has(to(0, "get", "instances", "user-service"), "az1-v1 v1 az1 usable", "az2-v2-beta v2-beta az2 usable")
	has(to(0, "get", "releases"), "v2-beta permissive user-service version=v2-beta")
	has(to(0, "get", "routes"), "api-v1-users /api/v1/users/** GET,POST user-service")
	explain := []string{"explain", "/api/v1/users/42", "--tag", "v2-beta"}
	has(to(0, explain...), "goes to az1-v2-beta in az1", "rung canary-here", "reason in-release")
	has(to(0, "explain", "/api/v1/users/42"), "goes to az1-v1 in az1", "rung baseline-here", "reason untagged")
	has(to(0, "explain", "/"), "is answered 404")

	has(to(1, "drain", "user-service/az1-v2-beta"), "user-service/az1-v2-beta drains")
	eventually(t, "tagged requests leave az1", func() error {
		got, _, err := d.ask(http.DefaultClient, 0, "x-release-tag", "v2-beta")
		if err == nil && (got.Zone != "az2" || got.Version != "v2-beta") {
			err = fmt.Errorf("answered by %+v", got)
		}
		return err
	})
	has(to(0, explain...), "goes to az2-v2-beta in az2", "rung canary-elsewhere")
	has(to(0, "get", "instances", "user-service"), "az1-v2-beta draining")
	refused(t, grayfed(t, "drain", "user-service/none", "--edge", d.admin[0]), 1, "user-service/none is not registered")
	refused(t, grayfed(t, "get", "instances", "none", "--edge", d.admin[0]), 1, `no service "none"`, "user-service")
}

// TestDevEdgeDies kills az1's edge: its instances stay registered, a sibling of
// the region adopts them, and the other zones go on serving. A program that
// somebody else registered moves on as well.
func TestDevEdgeDies(t *testing.T) {
	d := startDev(t)
	port := freePorts(t, 1)[0]
	r := startRegister(t, "ends", "127.0.0.1:"+port, "--edges", d.admin[0]+","+d.admin[1], "--port", port, "--ttl", "3s")
	r.says("instance is registered")
	d.kill("edge -c", "az1")
	r.says("heartbeats go to another")
	var list struct {
		Instances []struct{ ID, Zone, Owner string } `json:"instances"`
	}
	eventually(t, "az1's instances move to another owner", func() error {
		list.Instances = nil
		d.get(1, "/v1/services/user-service/instances", &list)
		if len(list.Instances) != 5 {
			t.Fatalf("the death of an edge lost instances: %+v", list.Instances)
		}
		for _, i := range list.Instances {
			if i.Owner == "az1-edge" {
				return fmt.Errorf("%s is still owned by the dead edge", i.ID)
			}
		}
		return nil
	})
	for zone := 1; zone < 3; zone++ {
		if got, _, err := d.ask(http.DefaultClient, zone); err != nil || got.Version != "v1" {
			t.Errorf("zone %d after the death of az1's edge: %+v, %v", zone, got, err)
		}
	}
	eventually(t, "the program's instance has another owner", func() error {
		d.get(1, "/v1/services/users/instances", &list)
		if len(list.Instances) != 1 {
			t.Fatalf("the death of an edge lost the program's instance: %+v", list.Instances)
		}
		if list.Instances[0].Owner == "az1-edge" {
			return errors.New("it is still owned by the dead edge")
		}
		return nil
	})
	r.signal(syscall.SIGTERM)
	r.says("instance is deregistered")
	r.ends(3)
	eventually(t, "gossip reports the dead edge", func() error {
		var fed struct {
			Edges []struct{ ID, Status string } `json:"edges"`
		}
		d.get(2, "/v1/federation", &fed)
		for _, e := range fed.Edges {
			if e.ID == "az1-edge" && e.Status == "dead" {
				return nil
			}
		}
		return fmt.Errorf("edges are %+v", fed.Edges)
	})
}

// TestDevDrills: what is told to end is a drill like what is killed; what fails
// by itself ends everything, with one line that names it.
func TestDevDrills(t *testing.T) {
	d := startDev(t)
	d.signal(syscall.SIGTERM, "dev-instance", "--zone az2", "--version v1")
	eventually(t, "az2's v1 is taken out", func() error {
		if got, _, err := d.ask(http.DefaultClient, 1); err != nil || got.Version != "v1" {
			t.Errorf("az2 after its v1 was told to end: %+v, %v", got, err)
		}
		var list struct{ Instances []struct{ ID string } }
		d.get(0, "/v1/services/user-service/instances", &list)
		if len(list.Instances) != 4 {
			return fmt.Errorf("instances are %+v", list.Instances)
		}
		return nil
	})
	eventually(t, "it is told", func() error {
		if !strings.Contains(d.output(), "az2/user-service v1      | ended (exited); the others go on") {
			return errors.New("it is not")
		}
		return nil
	})

	// The runtime's answer to SIGQUIT: exit code 2.
	d.signal(syscall.SIGQUIT, "dev-instance", "--zone az3")
	if err := d.wait(); err == nil {
		t.Error("the end of a child that failed was exit code 0")
	}
	last := d.output()[strings.LastIndex(strings.TrimSpace(d.output()), "\n")+1:]
	if !strings.HasPrefix(last, "grayfed: az3/user-service v1 ended by itself: exit status 2") {
		t.Errorf("the last line is %q", last)
	}
	if left := d.processes(); len(left) > 0 {
		t.Errorf("left processes behind: %v", left)
	}
}

func TestDevKilledLeavesNothing(t *testing.T) {
	d := startDev(t)
	if err := d.command.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the children end", func() error {
		if left := d.processes(); len(left) > 0 {
			return fmt.Errorf("left processes behind: %v", left)
		}
		return nil
	})
}

func TestDevEndsByItself(t *testing.T) {
	d := startDev(t, "--for", "6s")
	if err := d.wait(); err != nil {
		t.Errorf("--for ended with %v", err)
	}
	if left := d.processes(); len(left) > 0 {
		t.Errorf("left processes behind: %v", left)
	}
}

// TestDevSaysWhatIsWrong: one clear line that names the culprit, and an exit
// code that a script notices.
func TestDevSaysWhatIsWrong(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	_, takenPort, _ := net.SplitHostPort(taken.Addr().String())
	takenUDP, err := net.ListenPacket("udp", "127.0.0.1:"+freePorts(t, 1)[0])
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = takenUDP.Close() }()
	_, takenUDPPort, _ := net.SplitHostPort(takenUDP.LocalAddr().String())
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args func(dir string, ports []string) []string
		says []string
	}{
		"a taken data port": {func(dir string, ports []string) []string {
			ports[1] = takenPort
			return devArgs(dir, ports)
		}, []string{"az2", takenPort, "address already in use", "--data-ports"}},
		"a taken etcd port": {func(dir string, ports []string) []string {
			ports[9] = takenPort
			return devArgs(dir, ports)
		}, []string{"etcd", takenPort, "--etcd-port"}},
		"a gossip port taken for UDP": {func(dir string, ports []string) []string {
			ports[8] = takenUDPPort
			return devArgs(dir, ports)
		}, []string{"az3", takenUDPPort, "udp", "--gossip-ports"}},
		"a name server's port taken for UDP": {func(dir string, ports []string) []string {
			ports[12] = takenUDPPort
			return devArgs(dir, ports)
		}, []string{"az2", takenUDPPort, "udp", "--dns-ports"}},
		"an unknown reach": {func(string, []string) []string {
			return []string{"dev", "--namespaces", "--reach", "by train"}
		}, []string{"by train", "direct", "gateway"}},
		"a data folder that is a file": {func(_ string, ports []string) []string {
			return devArgs(file, ports)
		}, []string{"data folder", file}},
		"too few ports": {func(_ string, _ []string) []string {
			return []string{"dev", "--data-ports", "1,2"}
		}, []string{"--data-ports", "three ports"}},
	} {
		t.Run(name, func(t *testing.T) {
			command := exec.Command(binary(t), c.args(t.TempDir(), freePorts(t, devPorts))...)
			out, err := command.CombinedOutput()
			if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() <= 0 {
				t.Errorf("ended with %v", err)
			}
			if lines := strings.Count(strings.TrimSpace(string(out)), "\n") + 1; lines != 1 {
				t.Errorf("said %d lines, want one:\n%s", lines, out)
			}
			for _, word := range c.says {
				if !strings.Contains(string(out), word) {
					t.Errorf("%q does not name %q", out, word)
				}
			}
		})
	}
}

// TestDevChildDiesAtTheStart: the child says why, dev names it, and what had
// started is ended.
func TestDevChildDiesAtTheStart(t *testing.T) {
	dir := writeFiles(t, "etcd", "not a folder")
	command := exec.Command(binary(t), devArgs(dir, freePorts(t, devPorts))...)
	out, err := command.CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != exitFailure {
		t.Errorf("ended with %v", err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if last := lines[len(lines)-1]; !strings.HasPrefix(last, "grayfed: etcd died while starting: exit status 1") {
		t.Errorf("the last line is %q", last)
	}
	if !strings.Contains(string(out), "etcd                     | grayfed: start etcd") {
		t.Errorf("the child's own words are not there:\n%s", out)
	}
}

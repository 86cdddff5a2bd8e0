package lab

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestLab(t *testing.T) {
	binary := program(t)
	t.Run("a crash leaves nothing for long", func(t *testing.T) { testCrash(t, binary) })
	t.Run("only root makes namespaces", func(t *testing.T) { testNotRoot(t, binary) })
	s := start(t, Options{Binary: binary, Namespaces: true})
	for _, c := range []struct {
		name string
		test func(*testing.T, *started)
	}{
		{"what it is", testParts},
		{"name servers", testNameServers},
		{"partition", testPartition},
		{"kill and start", testKillAndStart},
		{"freeze", testFreeze},
		{"etcd's leader", testEtcdLeader},
		{"consul", testConsul},
		{"behaviour", testBehave},
		{"certificate", testCertificate},
		{"clock and documents", testClockAndDocuments},
		{"another program", testBinary},
		{"administration", testAdministration},
		{"what is not there", testUnknown},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.t = t
			c.test(t, s)
		})
		if t.Failed() {
			return
		}
	}
	s.t = t
	// A frozen process hears SIGTERM as well.
	done(t, s.Signal("az2/edge", syscall.SIGSTOP))
	pids := pids(t, s.dir)
	if len(pids) != len(s.Parts()) {
		t.Errorf("%d processes for %d parts", len(pids), len(s.Parts()))
	}
	slot := s.network.slot
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	if !strings.Contains(s.log.String(), `msg="edge stops" edge=az2-edge`) {
		t.Error("the frozen edge was not told to stop")
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("process %d is left: %v", pid, err)
		}
	}
	for _, path := range []string{filepath.Join(namespaceFolder, slot.namespace("az1")), "/sys/class/net/" + slot.link(), s.dir} {
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s is left", path)
		}
	}
	if err := s.Start(t.Context(), "az1/edge"); err == nil {
		t.Error("a part starts in a lab that has ended")
	}
}

// testCrash kills a whole lab's owner: its processes end with it, and the next
// lab removes its network.
func testCrash(t *testing.T, binary string) {
	folder := t.TempDir()
	command := exec.Command(binary, "dev", "--namespaces", "--data-dir", folder)
	said := new(log)
	command.Stdout, command.Stderr = said, said
	done(t, command.Start())
	// Edges, etcd and Consul in three zones, Consul in two, and ten instances.
	const all = 3*3 + 2 + 10
	eventually(t, "all its processes run", func() error {
		if n := len(pids(t, folder)); n < all {
			return fmt.Errorf("%d of %d; it said\n%s", n, all, said)
		}
		return nil
	})
	number := slotOf(t, command.Process.Pid)
	done(t, command.Process.Kill())
	_ = command.Wait() // it was killed
	eventually(t, "its processes end", func() error {
		if left := pids(t, folder); len(left) > 0 {
			return fmt.Errorf("%v are left", left)
		}
		return nil
	})
	next, _, err := takeSlot(t.Context(), "")
	done(t, err)
	dead := &slot{number: number}
	gone(t, filepath.Join(namespaceFolder, dead.namespace(router)), filepath.Join(namespaceFolder, dead.namespace("az1")),
		"/sys/class/net/"+dead.link())
	done(t, next.release())
}

func testNotRoot(t *testing.T, binary string) {
	done(t, os.Chmod(filepath.Dir(filepath.Dir(binary)), 0o755)) // of the test's folders
	command := exec.Command(binary, "dev", "--namespaces")
	const nobody = 65534
	command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	said, err := command.CombinedOutput()
	if err == nil || !strings.HasPrefix(string(said), "grayfed: a lab in network namespaces needs root") || strings.Count(string(said), "\n") != 1 {
		t.Errorf("it ended with %v and said %q", err, said)
	}
}

func TestOptions(t *testing.T) {
	for name, opts := range map[string]Options{
		"no binary":       {Output: io.Discard},
		"no output":       {Binary: "x"},
		"replicas":        {Binary: "x", Output: io.Discard, Replicas: 11},
		"too many zones":  {Binary: "x", Output: io.Discard, Namespaces: true, Zones: make([]Zone, 14)},
		"a port is taken": {Binary: "x", Output: io.Discard, Etcd: -1},
	} {
		if _, err := New(opts); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestWhatIsMissing: a machine that lacks something is told what to install.
func TestWhatIsMissing(t *testing.T) {
	tools := t.TempDir()
	lacks := func(words ...string) {
		t.Helper()
		_, err := New(Options{Binary: "x", Output: io.Discard, Namespaces: true})
		for _, word := range words {
			if err == nil || !strings.Contains(err.Error(), word) {
				t.Errorf("%v does not say %q", err, word)
			}
		}
	}
	paths := make(map[string]string)
	for _, tool := range []string{"ip", "nft"} {
		path, err := exec.LookPath(tool)
		done(t, err)
		paths[tool] = path
	}
	t.Setenv("PATH", tools)
	t.Chdir(tools)
	done(t, os.Symlink(paths["ip"], filepath.Join(tools, "ip")))
	lacks("nft", "package nftables")
	done(t, os.Symlink(paths["nft"], filepath.Join(tools, "nft")))
	lacks("Consul", "make consul", "PATH")
	cache := filepath.Join(tools, consulCache)
	done(t, os.MkdirAll(filepath.Dir(cache), 0o755))
	done(t, os.WriteFile(cache, nil, 0o755))
	below := filepath.Join(tools, "below")
	done(t, os.Mkdir(below, 0o755))
	t.Chdir(below)
	if path, err := findConsul(); err != nil || path != cache {
		t.Errorf("found %q, %v", path, err)
	}
	own := filepath.Join(tools, "consul")
	for says, want := range map[string]string{
		"echo Consul v1.8.7+dfsg1; echo Revision 1": own,
		"echo Consul v1.22.0-dev":                   own,
		"echo Consul v2.0.0":                        own,
		"echo Consul v1.7.14":                       cache,
		"echo Consul v0.9.3":                        cache,
		"echo Nomad v1.9.0":                         cache,
		"echo Consul v1.9.0; exit 1":                cache,
		"":                                          cache,
	} {
		done(t, os.WriteFile(own, []byte("#!/bin/sh\n"+says+"\n"), 0o755))
		if path, err := findConsul(); err != nil || path != want {
			t.Errorf("with one on PATH that does %q: found %q, %v; want %q", says, path, err, want)
		}
	}
	// What does not do is named where there is no other.
	done(t, os.Remove(cache))
	done(t, os.WriteFile(own, []byte("#!/bin/sh\necho Consul v1.7.14\n"), 0o755))
	lacks(own, "v1.7.14", "1.8", "make consul")
	done(t, os.WriteFile(own, []byte("#!/bin/sh\necho hello\n"), 0o755))
	lacks(own, "hello", "make consul")
	done(t, os.Remove(filepath.Join(tools, "ip")))
	lacks("ip", "package iproute2")
}

// TestBeforeRun: a drill is planned on a lab that does not run.
func TestBeforeRun(t *testing.T) {
	l, err := New(Options{Binary: "x", Output: io.Discard, Namespaces: true, Consul: "x", Replicas: 2})
	done(t, err)
	if got := strings.Join(l.Parts(), ","); !strings.Contains(got, "az2/user-service v2-beta,az2/user-service v2-beta 2,az3/") {
		t.Errorf("parts are %s", got)
	}
	if got := l.Edge("az1").Data; got != "http://10.77.1.2:8081" {
		t.Errorf("az1's edge is at %q", got)
	}
	if _, err := l.Client("az1"); err != nil {
		t.Error(err)
	}
	if _, err := l.Pid("az1/edge"); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("pid before it runs: %v", err)
	}
}

package main

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// serverEnv turns this test's binary into a program to register: its value is
// the address to serve, or "" to serve nothing; serverBehaviour says how it
// ends: "ends" exits on SIGTERM, "stays" ignores it, "exits 7" exits at once.
const (
	serverEnv       = "GRAYFED_TEST_SERVER"
	serverBehaviour = "GRAYFED_TEST_BEHAVIOUR"
)

// serve is a program that somebody registers.
func serve() int {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGUSR1)
	fmt.Println("pid", os.Getpid())
	behaviour := os.Getenv(serverBehaviour)
	if code, ok := strings.CutPrefix(behaviour, "exits "); ok {
		n, _ := strconv.Atoi(code)
		fmt.Fprintln(os.Stderr, "gives up")
		return n
	}
	if address := os.Getenv(serverEnv); address != "nothing" {
		l, err := net.Listen("tcp", address)
		if err != nil {
			fmt.Println(err)
			return 1
		}
		var healthy atomic.Bool
		handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if !healthy.Swap(true) { // the first answer is that of a program that starts
				w.WriteHeader(http.StatusServiceUnavailable)
			}
			fmt.Fprintln(w, "well")
		})
		go func() { _ = http.Serve(l, handler) }()
	}
	for s := range signals {
		fmt.Println("got", s)
		if s == syscall.SIGTERM && behaviour == "ends" {
			return 3
		}
	}
	return 0
}

// registered is a "grayfed register" under way.
type registered struct {
	t       *testing.T
	command *exec.Cmd
	lines   chan string // of both outputs
	exited  chan struct{}
}

func startRegister(t *testing.T, behaviour, serves string, args ...string) *registered {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	args = append([]string{"register", "--service", "users", "--id", "p1", "--zone", "az1"}, args...)
	r := &registered{t: t, command: exec.Command(binary(t), append(args, "--", self)...), lines: make(chan string, 1000), exited: make(chan struct{})}
	r.command.Env = append(os.Environ(), serverEnv+"="+serves, serverBehaviour+"="+behaviour)
	pipe, err := r.command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	r.command.Stderr = r.command.Stdout
	if err := r.command.Start(); err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer close(r.lines)
		for lines := bufio.NewScanner(pipe); lines.Scan(); {
			r.lines <- lines.Text()
		}
	}()
	go func() {
		defer close(r.exited)
		<-read
		_ = r.command.Wait() // ends looks at the exit code
	}()
	t.Cleanup(func() {
		_ = r.command.Process.Kill()
		select {
		case <-r.exited:
		case <-time.After(deadline):
			t.Error("its program outlives it")
		}
	})
	return r
}

// says waits for a line with the words and returns it.
func (r *registered) says(words string) string {
	r.t.Helper()
	late := time.After(deadline)
	var said []string
	for {
		select {
		case line, ok := <-r.lines:
			if !ok {
				r.t.Fatalf("it ended without saying %q, but:\n%s", words, strings.Join(said, "\n"))
			}
			if said = append(said, line); strings.Contains(line, words) {
				return line
			}
		case <-late:
			r.t.Fatalf("it did not say %q, but:\n%s", words, strings.Join(said, "\n"))
		}
	}
}

// pid is the program's.
func (r *registered) pid() int {
	r.t.Helper()
	n, err := strconv.Atoi(strings.TrimPrefix(r.says("pid "), "pid "))
	if err != nil {
		r.t.Fatal(err)
	}
	return n
}

func (r *registered) signal(s syscall.Signal) {
	r.t.Helper()
	if err := r.command.Process.Signal(s); err != nil {
		r.t.Fatal(err)
	}
}

// ends waits for the exit code.
func (r *registered) ends(code int) {
	r.t.Helper()
	select {
	case <-r.exited:
		if got := r.command.ProcessState.ExitCode(); got != code {
			r.t.Errorf("exit code %d, want %d", got, code)
		}
	case <-time.After(deadline):
		r.t.Fatal("it did not end")
	}
}

// gone waits until a process has ended, whether or not anybody reaped it.
func gone(t *testing.T, pid int) {
	t.Helper()
	eventually(t, "the program ends", func() error {
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err == nil && len(line) > 0 {
			return fmt.Errorf("process %d is there", pid)
		}
		return nil
	})
}

const thePath = "/v1/services/users/instances/p1"

// TestRegister is a whole life: it serves, is registered, gets signals, drains,
// ends, is taken out, and its exit code is told.
func TestRegister(t *testing.T) {
	edge := newStandIn(t, false)
	port := freePorts(t, 1)[0]
	r := startRegister(t, "ends", "127.0.0.1:"+port, "--edges", edge.URL, "--port", port, "--ttl", "1s",
		"--version", "v2", "--region", "east", "--cluster", "c1", "--tag", "track=canary", "--tag", "team=", "--weight", "7",
		"--capacity", "9", "--health-path", "/well", "--wait", "/ready")
	edge.await("POST " + thePath + "/heartbeat")
	said := edge.registered()["p1"]
	if said.Address != "127.0.0.1:"+port || said.Zone != "az1" || said.Region != "east" || said.Cluster != "c1" || said.Version != "v2" ||
		said.Tags["track"] != "canary" || len(said.Tags) != 2 || *said.Weight != 7 || said.Capacity != 9 || said.HealthPath != "/well" ||
		time.Duration(*said.TTL) != time.Second {
		t.Errorf("registered as %+v", said)
	}
	r.signal(syscall.SIGHUP)
	r.says("got hangup")
	r.signal(syscall.SIGINT)
	r.says("got terminated")
	if calls := edge.await("DELETE " + thePath); !slices.Contains(calls, "POST "+thePath+"/drain") {
		t.Errorf("it was not drained: %v", calls)
	}
	r.ends(3)
	if len(edge.registered()) > 0 {
		t.Error("it is still registered")
	}
}

// TestRegisterWhenItsProgramDies: the instance is out at once, without a drain.
func TestRegisterWhenItsProgramDies(t *testing.T) {
	edge := newStandIn(t, false)
	port := freePorts(t, 1)[0]
	r := startRegister(t, "ends", "127.0.0.1:"+port, "--edges", edge.URL, "--port", port)
	pid := r.pid()
	edge.await("PUT " + thePath)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	calls := edge.await("DELETE " + thePath)
	if slices.Contains(calls, "POST "+thePath+"/drain") {
		t.Errorf("a dead program was drained: %v", calls)
	}
	r.ends(128 + 9)
}

// TestRegisterStopsWhatStays: a program that ignores SIGTERM is killed when its
// time is up, or at the second signal.
func TestRegisterStopsWhatStays(t *testing.T) {
	for name, c := range map[string]struct {
		stopTimeout string
		signals     int
	}{
		"its time is up":  {"10ms", 1},
		"a second signal": {"1h", 2},
	} {
		t.Run(name, func(t *testing.T) {
			edge := newStandIn(t, false)
			port := freePorts(t, 1)[0]
			r := startRegister(t, "stays", "127.0.0.1:"+port, "--edges", edge.URL, "--port", port, "--stop-timeout", c.stopTimeout)
			edge.await("PUT " + thePath)
			r.signal(syscall.SIGTERM)
			r.says("got terminated")
			if c.signals > 1 {
				r.signal(syscall.SIGTERM)
			}
			edge.await("DELETE " + thePath)
			r.ends(128 + 9)
		})
	}
}

func TestRegisterKilledLeavesNoProgram(t *testing.T) {
	edge := newStandIn(t, false)
	port := freePorts(t, 1)[0]
	r := startRegister(t, "ends", "127.0.0.1:"+port, "--edges", edge.URL, "--port", port)
	pid := r.pid()
	edge.await("PUT " + thePath)
	r.signal(syscall.SIGKILL)
	gone(t, pid)
}

// TestRegisterNeedsAProgramThatServes: what does not serve is never registered.
func TestRegisterNeedsAProgramThatServes(t *testing.T) {
	edge := newStandIn(t, false)
	port := freePorts(t, 1)[0]
	common := []string{"--edges", edge.URL, "--port", port}

	r := startRegister(t, "exits 7", "nothing", common...)
	r.says("gives up")
	r.ends(7)

	r = startRegister(t, "ends", "nothing", append(common, "--wait-timeout", "100ms")...)
	pid := r.pid()
	r.says("does not serve at 127.0.0.1:" + port + " within 100ms")
	r.ends(1)
	gone(t, pid)

	r = startRegister(t, "ends", "nothing", common...)
	pid = r.pid()
	r.signal(syscall.SIGTERM)
	r.says("got terminated")
	r.ends(3)
	gone(t, pid)

	edge.locked(func() {
		if len(edge.calls) > 0 {
			t.Errorf("the edge was told: %v", edge.calls)
		}
	})
}

// TestRegisterRefused: a program that no edge will take does not go on as if it
// were registered.
func TestRegisterRefused(t *testing.T) {
	edge := newStandIn(t, true) // wants a token
	port := freePorts(t, 1)[0]
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, []byte(certificatePEM(edge.Certificate().Raw)), 0o600); err != nil {
		t.Fatal(err)
	}
	r := startRegister(t, "ends", "127.0.0.1:"+port, "--edges", edge.URL, "--ca-file", ca, "--port", port)
	pid := r.pid()
	r.says("grayfed: register users/p1: PUT " + edge.URL)
	r.ends(1)
	gone(t, pid)
}

func TestRegisterCannotRun(t *testing.T) {
	common := []string{"register", "--service", "s", "--zone", "z", "--port", "1", "--"}
	refused(t, grayfed(t, append(common, "no-such-program")...), 127, "no-such-program", "not found")
	refused(t, grayfed(t, append(common, "./no/such/program")...), 127, "./no/such/program", "no such file")
	plain := filepath.Join(writeFiles(t, "plain", "text"), "plain")
	refused(t, grayfed(t, append(common, plain)...), 126, plain, "permission denied")
}

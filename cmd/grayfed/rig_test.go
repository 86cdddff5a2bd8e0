package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// deadline bounds every wait of these tests; it says nothing about speed.
const deadline = 30 * time.Second

// dev is a running "grayfed dev" with ports of its own.
type dev struct {
	t       *testing.T
	command *exec.Cmd
	dir     string
	data    []string // base URLs
	admin   []string
	dns     []string      // "ip:port"
	exited  chan struct{} // closed when it has ended
	err     error         // how it ended; set before exited is closed

	mu  sync.Mutex
	out bytes.Buffer
}

// freePorts returns ports that are free for TCP and UDP. They lie below those
// that the kernel gives to outgoing connections, which could take them before
// they are used.
func freePorts(t *testing.T, n int) []string {
	t.Helper()
	var ports []string
	for range 1000 {
		if len(ports) == n {
			return ports
		}
		port := strconv.Itoa(10_000 + rand.IntN(20_000))
		stream, err := net.Listen("tcp", "127.0.0.1:"+port)
		if err != nil {
			continue
		}
		defer func() { _ = stream.Close() }()
		packets, err := net.ListenPacket("udp", "127.0.0.1:"+port)
		if err != nil {
			continue
		}
		defer func() { _ = packets.Close() }()
		ports = append(ports, port)
	}
	t.Fatalf("found %d free ports, want %d", len(ports), n)
	return nil
}

// devPorts is how many ports dev needs.
const devPorts = 14

func devArgs(dir string, ports []string) []string {
	return []string{
		"dev", "--data-dir", dir,
		"--data-ports", strings.Join(ports[0:3], ","),
		"--admin-ports", strings.Join(ports[3:6], ","),
		"--gossip-ports", strings.Join(ports[6:9], ","),
		"--etcd-port", ports[9], "--etcd-peer-port", ports[10],
		"--dns-ports", strings.Join(ports[11:14], ","),
	}
}

func startDev(t *testing.T, extra ...string) *dev {
	t.Helper()
	d := &dev{t: t, dir: t.TempDir(), exited: make(chan struct{})}
	ports := freePorts(t, devPorts)
	for n := range 3 {
		d.data = append(d.data, "http://127.0.0.1:"+ports[n])
		d.admin = append(d.admin, "http://127.0.0.1:"+ports[3+n])
		d.dns = append(d.dns, "127.0.0.1:"+ports[11+n])
	}
	// A relative folder must do.
	d.command = exec.Command(binary(t), append(devArgs(filepath.Base(d.dir), ports), extra...)...)
	d.command.Dir = filepath.Dir(d.dir)
	pipe, err := d.command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	d.command.Stderr = d.command.Stdout
	if err := d.command.Start(); err != nil {
		t.Fatal(err)
	}
	ready := make(chan struct{})
	go func() {
		defer close(d.exited)
		for lines := bufio.NewScanner(pipe); lines.Scan(); {
			d.mu.Lock()
			d.out.WriteString(lines.Text() + "\n")
			d.mu.Unlock()
			if lines.Text() == "ready" {
				close(ready)
			}
		}
		d.err = d.command.Wait()
	}()
	t.Cleanup(func() {
		_ = d.command.Process.Signal(syscall.SIGINT)
		select {
		case <-d.exited:
		case <-time.After(deadline):
			_ = d.command.Process.Kill()
			t.Error("did not end on SIGINT")
		}
		if t.Failed() {
			t.Logf("output:\n%s", d.output())
		}
	})
	select {
	case <-ready:
	case <-d.exited:
		t.Fatalf("ended before it was ready: %v", d.err)
	case <-time.After(deadline):
		t.Fatal("not ready in time")
	}
	return d
}

// wait returns how it ended.
func (d *dev) wait() error {
	<-d.exited
	return d.err
}

func (d *dev) output() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.out.String()
}

// processes returns the ids of this lab's processes whose command line holds
// all the words.
func (d *dev) processes(words ...string) []int {
	d.t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		d.t.Fatal(err)
	}
	// Every child's command line names a port or a folder of this lab only.
	mine := append([]string{d.dir}, d.admin...)
	var found []int
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid == d.command.Process.Pid {
			continue
		}
		raw, err := os.ReadFile(filepath.Join("/proc", entry.Name(), "cmdline"))
		if err != nil {
			continue // it ended meanwhile
		}
		line := string(bytes.ReplaceAll(raw, []byte{0}, []byte{' '}))
		if containsAny(line, mine) && containsAll(line, words) {
			found = append(found, pid)
		}
	}
	return found
}

func containsAny(text string, words []string) bool {
	for _, word := range words {
		if strings.Contains(text, word) {
			return true
		}
	}
	return false
}

func containsAll(text string, words []string) bool {
	for _, word := range words {
		if !strings.Contains(text, word) {
			return false
		}
	}
	return true
}

// kill ends exactly one process, for real.
func (d *dev) kill(words ...string) {
	d.t.Helper()
	d.signal(syscall.SIGKILL, words...)
}

func (d *dev) signal(s syscall.Signal, words ...string) {
	d.t.Helper()
	pids := d.processes(words...)
	if len(pids) != 1 {
		d.t.Fatalf("%d processes match %q, want one", len(pids), words)
	}
	if err := syscall.Kill(pids[0], s); err != nil {
		d.t.Fatal(err)
	}
}

// answer is what the sample service says.
type answer struct{ Service, Version, Zone, Instance string }

func (d *dev) ask(client *http.Client, zone int, header ...string) (answer, http.Header, error) {
	request, err := http.NewRequestWithContext(context.Background(), http.MethodGet, d.data[zone]+"/api/v1/users/42", nil)
	if err != nil {
		return answer{}, nil, err
	}
	for n := 0; n+1 < len(header); n += 2 {
		request.Header.Set(header[n], header[n+1])
	}
	response, err := client.Do(request)
	if err != nil {
		return answer{}, nil, err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return answer{}, nil, err
	}
	if response.StatusCode != http.StatusOK {
		return answer{}, response.Header, fmt.Errorf("%s: %s", response.Status, body)
	}
	var a answer
	err = json.Unmarshal(body, &a)
	return a, response.Header, err
}

func (d *dev) get(zone int, path string, into any) {
	d.t.Helper()
	response, err := http.Get(d.admin[zone] + path)
	if err != nil {
		d.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		d.t.Fatalf("GET %s: %s", path, response.Status)
	}
	if err := json.NewDecoder(response.Body).Decode(into); err != nil {
		d.t.Fatalf("GET %s: %v", path, err)
	}
}

// eventually polls until check returns nil.
func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: %v", what, err)
		case <-ticker.C:
		}
	}
}

package lab

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// deadline bounds every wait; it says nothing about speed.
const deadline = 30 * time.Second

// program builds what the lab's parts run.
func program(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "grayfed")
	command := exec.Command("go", "build", "-o", path, "github.com/grayfed/grayfed/cmd/grayfed")
	if said, err := command.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, said)
	}
	return path
}

// log keeps what the parts say.
type log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *log) Write(data []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(data)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// started is a lab that serves, until the test ends or stop is called.
type started struct {
	*Lab
	t    *testing.T
	log  *log
	stop func() error
}

func start(t *testing.T, opts Options) *started {
	t.Helper()
	s := &started{t: t, log: new(log)}
	ready := make(chan struct{})
	opts.Output, opts.Ready = s.log, func(*Lab) { close(ready) }
	var err error
	if s.Lab, err = New(opts); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	s.stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("the lab said:\n%s", s.log)
		}
	})
	select {
	case <-ready:
	case err := <-ended:
		ended <- err
		t.Fatalf("ended before it was ready: %v", err)
	}
	return s
}

// asks sends a request through a zone's edge, as a client does.
func (s *started) asks(zone, tag string, timeout time.Duration) error {
	client := &http.Client{Timeout: timeout, Transport: &http.Transport{DisableKeepAlives: true}}
	return ask(s.t.Context(), client, s.Edge(zone).Data, tag)
}

func (s *started) serves(zone string) {
	s.t.Helper()
	eventually(s.t, zone+" serves", func() error { return s.asks(zone, "", callTimeout) })
}

// pids are the processes whose command line names a folder.
func pids(t *testing.T, folder string) []int {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	done(t, err)
	var found []int
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		line, err := os.ReadFile(filepath.Join("/proc", entry.Name(), "cmdline"))
		if err == nil && bytes.Contains(line, []byte(folder+"/")) {
			found = append(found, pid)
		}
	}
	return found
}

// slotOf is the slot that a process has.
func slotOf(t *testing.T, pid int) int {
	t.Helper()
	for n := range slots {
		owner, err := os.ReadFile(filepath.Join(slotFolder, strconv.Itoa(n)))
		if err == nil && strings.HasPrefix(string(owner), strconv.Itoa(pid)+"\n") {
			return n
		}
	}
	t.Fatalf("process %d has no slot", pid)
	return 0
}

func done(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// gone waits until none of the files is there.
func gone(t *testing.T, paths ...string) {
	t.Helper()
	eventually(t, "what was left behind is gone", func() error {
		for _, path := range paths {
			if _, err := os.Lstat(path); err == nil {
				return errors.New(path)
			}
		}
		return nil
	})
}

// eventually polls until check returns nil.
func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	late := time.After(deadline)
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-late:
			t.Fatalf("%s: %v", what, err)
		case <-ticker.C:
		}
	}
}

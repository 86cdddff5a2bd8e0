package fault

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/grayfed/grayfed/edge/api"
)

// patience bounds every wait of these tests; it says nothing about speed.
const patience = 20 * time.Second

// partAddress is the variable that makes this test's binary a part: a small
// HTTP server, which ends on SIGTERM.
const partAddress = "GRAYFED_FAULT_TEST_PART"

// readyAt is which question to /readyz is the first that is answered well.
const readyAt = 4

// servePart answers with its program and its pid; at /asked, how often it was
// asked whether it is ready.
func servePart(address string) {
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer cancel()
	asked := 0
	server := &http.Server{Addr: address, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/readyz" {
			if asked++; asked < readyAt {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
			return
		}
		if r.URL.Path == "/asked" {
			_, _ = fmt.Fprint(w, asked)
			return
		}
		if r.URL.Path == "/grow" {
			grown := make([]byte, 64<<20)
			for n := range grown {
				grown[n] = 1
			}
		}
		_, _ = fmt.Fprintf(w, "%s %d", os.Args[0], os.Getpid())
	})}
	go func() {
		<-ctx.Done()
		_ = server.Close()
	}()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// machine is a target of real processes of this machine.
type machine struct {
	t     testing.TB
	names []string

	mu    sync.Mutex
	parts map[string]*running // as started last
	sent  []string            // "SIGKILL az1/edge", starts and programs as well
	fail  map[string]error    // by entry of sent: what is refused
}

type running struct {
	command *exec.Cmd
	address string
	binary  string
	ended   chan struct{}
}

var (
	_ Processes = (*machine)(nil)
	_ Pids      = (*machine)(nil)
	_ Binaries  = (*machine)(nil)
	_ Clients   = (*machine)(nil)
	_ Leader    = (*machine)(nil)
)

// newMachine starts all parts; they end with the test.
func newMachine(t testing.TB, names ...string) *machine {
	t.Helper()
	m := &machine{t: t, names: names, parts: make(map[string]*running), fail: make(map[string]error)}
	t.Cleanup(func() {
		for _, p := range m.parts {
			_ = p.command.Process.Kill()
			<-p.ended
		}
	})
	for _, name := range names {
		m.parts[name] = &running{address: freeAddress(t), ended: make(chan struct{})}
		close(m.parts[name].ended)
		if err := m.Start(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	m.sent = nil
	return m
}

// freeAddress is of a port below those that the system gives to clients: it is
// bound again after a while.
func freeAddress(t testing.TB) string {
	t.Helper()
	for range 1000 {
		address := fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(20_000))
		if listener, err := net.Listen("tcp", address); err == nil {
			if err := listener.Close(); err != nil {
				t.Fatal(err)
			}
			return address
		}
	}
	t.Fatal("found no free port")
	return ""
}

// note records what is asked for, and may refuse it.
func (m *machine) note(what string) error {
	m.sent = append(m.sent, what)
	return m.fail[what]
}

func (m *machine) Parts() []string { return m.names }

func (m *machine) Pid(part string) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.parts[part].command.Process.Pid, m.fail["pid "+part]
}

func (m *machine) Signal(part string, s syscall.Signal) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s != 0 {
		if err := m.note(s.String() + " " + part); err != nil {
			return err
		}
	}
	p := m.parts[part]
	select {
	case <-p.ended:
		return fmt.Errorf("signal %s: %w", part, os.ErrProcessDone)
	default:
	}
	err := p.command.Process.Signal(s)
	if errors.Is(err, os.ErrProcessDone) {
		<-p.ended
	}
	return err
}

func (m *machine) Start(ctx context.Context, part string) error {
	m.mu.Lock()
	p := m.parts[part]
	refused := m.note("start " + part)
	next := &running{address: p.address, binary: p.binary, ended: make(chan struct{})}
	m.mu.Unlock()
	if refused != nil {
		return refused
	}
	select {
	case <-p.ended:
	default:
		return fmt.Errorf("start %s: it runs", part)
	}
	binary := p.binary
	if binary == "" {
		binary = os.Args[0]
	}
	next.command = exec.Command(binary)
	next.command.Env = append(os.Environ(), partAddress+"="+p.address)
	next.command.Stderr = os.Stderr
	next.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := next.command.Start(); err != nil {
		return err
	}
	go func() {
		defer close(next.ended)
		_ = next.command.Wait() // how it ends is up to the test
	}()
	m.mu.Lock()
	m.parts[part] = next
	m.mu.Unlock()
	for {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", p.address)
		if err == nil {
			return conn.Close()
		}
		if pause(ctx, poll) != nil {
			return err
		}
	}
}

func (m *machine) SetBinary(part, path string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.note("binary " + part + " " + filepath.Base(path)); err != nil {
		return err
	}
	m.parts[part].binary = path
	return nil
}

func (m *machine) Client(zone string) (*api.Client, error) {
	return api.NewClient(api.ClientOptions{URL: "http://" + m.parts[zone+"/edge"].address})
}

func (m *machine) EtcdLeader(context.Context) (string, error) { return "az2/etcd", m.fail["leader"] }

// asked is what was asked of the machine since it was last called.
func (m *machine) asked() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	sent := m.sent
	m.sent = nil
	return sent
}

// ask asks a part who it is: "program pid", or nothing when none answers
// within a short while.
func (m *machine) ask(part string) string { return m.get(part, "/") }

func (m *machine) get(part, path string) string {
	client := &http.Client{Timeout: 200 * time.Millisecond, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get("http://" + m.parts[part].address + path)
	if err != nil {
		return ""
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		m.t.Error(err)
	}
	return string(body)
}

// serving are the parts that answer.
func (m *machine) serving() []string {
	var names []string
	for _, name := range m.names {
		if m.ask(name) != "" {
			names = append(names, name)
		}
	}
	return names
}

// limited is a context that a test which hangs does not outlive.
func limited(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// create makes a fault that must be possible.
func create(t testing.TB, spec Spec, target any) Fault {
	t.Helper()
	f, err := New(spec, target)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func broken(t testing.TB, f Fault) {
	t.Helper()
	if err := f.Break(limited(t)); err != nil {
		t.Fatal(err)
	}
}

// mended mends twice: the second time there is nothing to undo.
func mended(t testing.TB, f Fault) {
	t.Helper()
	for range 2 {
		if err := f.Mend(limited(t)); err != nil {
			t.Fatal(err)
		}
	}
}

func same(t testing.TB, what string, found, want []string) {
	t.Helper()
	if !slices.Equal(found, want) {
		t.Errorf("%s:\n%s\nwant:\n%s", what, strings.Join(found, "\n"), strings.Join(want, "\n"))
	}
}

func eventually(t testing.TB, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
		time.Sleep(poll)
	}
}

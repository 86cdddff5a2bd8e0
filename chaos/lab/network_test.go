package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// patience is how long a packet that is dropped is waited for: it never comes,
// so a slow machine makes no difference.
const patience = 100 * time.Millisecond

// wired is a lab of nodes without processes.
func wired(t *testing.T) *Lab {
	t.Helper()
	if err := checkNamespaces(); err != nil {
		t.Fatal(err)
	}
	l := &Lab{opts: Options{Namespaces: true, Zones: DefaultZones()}, out: &lineWriter{out: new(bytes.Buffer)}}
	stop, err := l.openNetwork(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// mailbox takes datagrams in a node.
type mailbox struct {
	t       *testing.T
	l       *Lab
	node    string
	conn    *net.UDPConn
	address string
}

func (l *Lab) mailbox(t *testing.T, node string, port int) *mailbox {
	t.Helper()
	m := &mailbox{t: t, l: l, node: node}
	err := l.network.within(node, func() (err error) {
		m.conn, err = net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(l.host(node)), Port: port})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.conn.Close() })
	m.address = m.conn.LocalAddr().String()
	return m
}

func (m *mailbox) host() string { return m.l.host(m.node) }

func (m *mailbox) send(to *mailbox, text string) {
	m.t.Helper()
	if _, err := m.conn.WriteTo([]byte(text), to.conn.LocalAddr()); err != nil {
		m.t.Fatal(err)
	}
}

// next is the next datagram, or "" when none comes.
func (m *mailbox) next(wait time.Duration) string {
	m.t.Helper()
	if err := m.conn.SetReadDeadline(time.Now().Add(wait)); err != nil {
		m.t.Fatal(err)
	}
	buffer := make([]byte, 2048)
	n, _, err := m.conn.ReadFrom(buffer)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return ""
	}
	if err != nil {
		m.t.Fatal(err)
	}
	return string(buffer[:n])
}

// reaches reports whether a datagram gets from one mailbox to another.
func (m *mailbox) reaches(to *mailbox, expected bool) {
	m.t.Helper()
	wait := patience
	if expected {
		wait = deadline
	}
	m.send(to, "hello")
	if got := to.next(wait); (got == "hello") != expected {
		m.t.Errorf("a datagram from %s to %s: received %q, expected %v", m.node, to.node, got, expected)
	}
}

// arrived sends many datagrams and counts those that come. A socket's buffer
// holds a batch.
func (m *mailbox) arrived(to *mailbox, sent int) (n int) {
	m.t.Helper()
	const batch = 100
	for range sent / batch {
		for range batch {
			m.send(to, "x")
		}
		for to.next(patience) != "" {
			n++
		}
	}
	return n
}

func TestNetworkBlocksOneWay(t *testing.T) {
	l := wired(t)
	client, az1, az2 := l.mailbox(t, "client", 0), l.mailbox(t, "az1", 0), l.mailbox(t, "az2", 0)
	for _, from := range []*mailbox{client, az1, az2} {
		for _, to := range []*mailbox{client, az1, az2} {
			from.reaches(to, true)
		}
	}
	sound := func(from, to string) {
		t.Helper()
		if err := l.Impaired(t.Context(), from, to); err == nil || !strings.Contains(err.Error(), "nothing is wrong") {
			t.Errorf("%s to %s: %v", from, to, err)
		}
	}
	sound("az1", "az2")
	done(t, l.Block("az1", "az2", true))
	az1.reaches(az2, false)
	az2.reaches(az1, true)
	done(t, l.Impaired(t.Context(), "az1", "az2"))
	sound("az2", "az1")
	az1.reaches(client, true)
	client.reaches(az2, true)
	done(t, l.Block("az1", "az2", true)) // twice is once
	done(t, l.Block("az1", "az2", false))
	az1.reaches(az2, true)

	done(t, l.Block("client", "az1", true))
	client.reaches(az1, false)
	done(t, l.Impaired(t.Context(), "client", "az1"))
	az1.reaches(client, true)
	done(t, l.Block("client", "az1", false))
	client.reaches(az1, true)
}

func TestNetworkBlocksAPort(t *testing.T) {
	l := wired(t)
	from, shut, open := l.mailbox(t, "az1", 0), l.mailbox(t, "az2", 7946), l.mailbox(t, "az2", 7947)
	connects := func(port int) error {
		listener, err := listenIn(l, "az2", port)
		done(t, err)
		defer func() { _ = listener.Close() }()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		conn, err := l.dial(ctx, "az1", listener.Addr().String())
		if err != nil {
			return err
		}
		return conn.Close()
	}
	done(t, l.BlockPort("az1", "az2", 7946, true))
	done(t, l.Impaired(t.Context(), "az1", "az2"))
	from.reaches(shut, false)
	from.reaches(open, true)
	shut.reaches(from, true)
	if err := connects(7946); err == nil {
		t.Error("TCP to the blocked port connects")
	}
	if err := connects(7947); err != nil {
		t.Errorf("TCP to another port: %v", err)
	}
	done(t, l.BlockPort("az1", "az2", 7946, false))
	from.reaches(shut, true)
}

func listenIn(l *Lab, node string, port int) (listener net.Listener, err error) {
	err = l.network.within(node, func() error {
		listener, err = net.Listen("tcp", l.at(node, port))
		return err
	})
	return listener, err
}

func TestNetworkLosesPackets(t *testing.T) {
	l := wired(t)
	from, to := l.mailbox(t, "az1", 0), l.mailbox(t, "az3", 0)
	done(t, l.Lose("az1", "az3", 30))
	// 700 of 1000 pass, with a deviation of 14.5: ten times that never happens.
	if n := from.arrived(to, 1000); n < 550 || n > 850 {
		t.Errorf("%d of 1000 packets passed at a loss of 30%%", n)
	}
	to.reaches(from, true)
	done(t, l.Lose("az1", "az3", 100))
	from.reaches(to, false)
	done(t, l.Lose("az1", "az3", 0))
	from.reaches(to, true)
}

// TestVisitsEnd: no thread is left in a node's namespace, also when what was to
// be done there failed.
func TestVisitsEnd(t *testing.T) {
	l := wired(t)
	home, err := os.Readlink("/proc/self/ns/net")
	done(t, err)
	failed := errors.New("failed")
	for range 100 {
		err := l.network.within("az1", func() error {
			there, err := os.Readlink("/proc/thread-self/ns/net")
			if err != nil || there == home {
				return fmt.Errorf("it runs in %s, %w", there, err)
			}
			return failed
		})
		if !errors.Is(err, failed) {
			t.Fatalf("within: %v", err)
		}
		if err := l.network.within("az1", func() error { panic("a slip") }); err == nil || !strings.Contains(err.Error(), "panic: a slip") {
			t.Fatalf("a panic within: %v", err)
		}
	}
	if err := l.network.within("az9", func() error { return nil }); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("within no node: %v", err)
	}
	threads, err := filepath.Glob("/proc/self/task/*/ns/net")
	done(t, err)
	for _, thread := range threads {
		if where, err := os.Readlink(thread); err == nil && where != home {
			t.Errorf("%s is %s, want %s", thread, where, home)
		}
	}
}

// TestRules: the kernel's refusal is heard, and the next change is not taken
// for it.
func TestRules(t *testing.T) {
	l := wired(t)
	r := rule{flow: flow{a, b}, priority: blockPriority}
	if err := l.network.rules.set(false, r); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("deleting a rule that is not there: %v", err)
	}
	done(t, l.network.rules.set(true, r))
	if err := l.network.rules.set(true, r); !errors.Is(err, os.ErrExist) {
		t.Errorf("adding a rule that is there: %v", err)
	}
	other := r
	other.from = netip.MustParseAddr("10.77.3.2")
	if err := l.network.rules.set(false, other); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("deleting another's rule: %v", err)
	}
	done(t, l.network.rules.set(false, r))
}

// TestNetworkIsSlow compares answers on a slow link with those before: the
// delay is a lower bound, which no slow machine breaks.
func TestNetworkIsSlow(t *testing.T) {
	l := wired(t)
	client, az1, az2 := l.mailbox(t, "client", 0), l.mailbox(t, "az1", 0), l.mailbox(t, "az2", 0)
	const delay = 150 * time.Millisecond
	trip := func(from, to *mailbox) time.Duration {
		t.Helper()
		begun := time.Now()
		from.reaches(to, true)
		return time.Since(begun)
	}
	done(t, l.Slow("client", "az1", delay, 0))
	if took := trip(client, az1); took < delay {
		t.Errorf("a packet passed in %s, which is less than its delay %s", took, delay)
	}
	az1.reaches(client, true)
	client.reaches(az2, true)
	eventually(t, "the packet is counted", func() error {
		passed, dropped, err := l.Carried("client", "az1")
		if passed != 1 || dropped != 0 {
			return fmt.Errorf("%d packets passed and %d were dropped, %w", passed, dropped, err)
		}
		return nil
	})
	if passed, _, _ := l.Carried("az1", "client"); passed != 0 {
		t.Errorf("%d packets of the other way passed the relay", passed)
	}

	// TCP: 200 kB at 1 MB/s take 200 ms, whatever else happens.
	const size, rate = 200_000, 1_000_000
	done(t, l.Slow("client", "az1", 0, rate))
	begun := time.Now()
	if got := transfer(t, l, size); got != size {
		t.Errorf("%d of %d bytes came over the slow link", got, size)
	}
	if took := time.Since(begun); took < size*time.Second/rate {
		t.Errorf("%d bytes passed in %s at %d bytes per second", size, took, rate)
	}

	// What a loss drops is lost once, not again behind the relay.
	done(t, l.Slow("client", "az1", time.Millisecond, 0))
	done(t, l.Lose("client", "az1", 50))
	if passed := client.arrived(az1, 400); passed < 140 {
		t.Errorf("%d of 400 packets passed at a loss of 50%%", passed)
	}
	done(t, l.Lose("client", "az1", 0))

	done(t, l.Slow("client", "az1", 0, 0))
	// A relay that is shut holds whatever still came to it.
	l.network.relay.set(flow{netip.MustParseAddr(client.host()), netip.MustParseAddr(az1.host())}, time.Hour, 0)
	client.reaches(az1, true)
}

// transfer sends bytes from the client to az1 over TCP and counts what comes.
func transfer(t *testing.T, l *Lab, size int) int64 {
	t.Helper()
	listener, err := listenIn(l, "az1", 0)
	done(t, err)
	defer func() { _ = listener.Close() }()
	received := make(chan int64, 1)
	go func() {
		var n int64
		defer func() { received <- n }()
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		var all bytes.Buffer
		n, _ = all.ReadFrom(conn)
	}()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	conn, err := l.dial(ctx, "client", listener.Addr().String())
	done(t, err)
	_, err = conn.Write(make([]byte, size))
	done(t, errors.Join(err, conn.Close()))
	return <-received
}

// TestImpaired: what the lab remembers is no evidence. Somebody else mends each
// fault behind its back.
func TestImpaired(t *testing.T) {
	unfilter := []string{"nft", "flush", "table", "ip", filterTable}
	for name, c := range map[string]struct {
		cut  func(*Lab) error
		mend []string
		says string
	}{
		"blocked": {
			func(l *Lab) error { return l.Block("az1", "az2", true) },
			[]string{"ip", "rule", "delete", "priority", strconv.Itoa(blockPriority)}, "packets pass",
		},
		"slow": {
			func(l *Lab) error { return l.Slow("az1", "az2", 0, 1000) },
			[]string{"ip", "rule", "delete", "priority", strconv.Itoa(relayPriority)}, "through the relay",
		},
		"port":    {func(l *Lab) error { return l.BlockPort("az1", "az2", 7946, true) }, unfilter, "no rule for az1 to az2, port 7946"},
		"loss":    {func(l *Lab) error { return l.Lose("az1", "az2", 30) }, unfilter, "no rule for az1 to az2, percent 30"},
		"silence": {func(l *Lab) error { return l.Lose("az1", "az2", 100) }, unfilter, "no rule for az1 to az2, percent 100"},
	} {
		t.Run(name, func(t *testing.T) {
			l := wired(t)
			done(t, c.cut(l))
			done(t, l.Impaired(t.Context(), "az1", "az2"))
			_, err := l.network.ask(t.Context(), c.mend[0], c.mend[1:]...)
			done(t, err)
			if err := l.Impaired(t.Context(), "az1", "az2"); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("mended by somebody else: %v, want %q", err, c.says)
			}
		})
	}
}

func TestNetworkRefuses(t *testing.T) {
	l := wired(t)
	for name, c := range map[string]struct {
		err  error
		says string
	}{
		"unknown node":  {l.Block("az1", "az9", true), `no node "az9"`},
		"itself":        {l.Block("az1", "az1", true), "without the network"},
		"port":          {l.BlockPort("az1", "az2", 65536, true), "port is 65536"},
		"loss":          {l.Lose("az1", "az2", 101), "loss is 101%"},
		"delay":         {l.Slow("az1", "az2", -1, 0), "delay is"},
		"rate":          {l.Slow("az1", "az2", 0, 999), "rate is 999"},
		"no such link":  {l.Impaired(t.Context(), "az1", "az9"), `no node "az9"`},
		"no such count": {func() error { _, _, err := l.Carried("az1", "az9"); return err }(), `no node "az9"`},
	} {
		if c.err == nil || !strings.Contains(c.err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", name, c.err, c.says)
		}
	}
	from, to := l.mailbox(t, "az1", 0), l.mailbox(t, "az2", 0)
	from.reaches(to, true)

	loopback := &Lab{}
	for name, err := range map[string]error{
		"block": loopback.Block("az1", "az2", true), "impaired": loopback.Impaired(t.Context(), "az1", "az2"), "slow": loopback.Slow("az1", "az2", 1, 0),
		"certificate": loopback.IssueCertificate("az1", time.Now(), time.Now()),
	} {
		if !errors.Is(err, ErrNoNetwork) {
			t.Errorf("%s on loopback: %v", name, err)
		}
	}
}

// TestLabsLiveSideBySide: two have different slots, and neither sweeps the
// other; what is left of a dead one goes.
func TestLabsLiveSideBySide(t *testing.T) {
	first, second := wired(t), wired(t)
	if first.network.slot.number == second.network.slot.number {
		t.Fatal("two living labs have one slot")
	}
	a, b := first.mailbox(t, "az1", 0), second.mailbox(t, "az1", 0)
	a.reaches(first.mailbox(t, "client", 0), true)
	b.reaches(second.mailbox(t, "client", 0), true)
	owner, err := os.ReadFile(filepath.Join(slotFolder, strconv.Itoa(first.network.slot.number)))
	if err != nil || !strings.HasPrefix(string(owner), strconv.Itoa(os.Getpid())+"\n") {
		t.Errorf("the slot's owner is %q, %v", owner, err)
	}
	// A slot without its lock is what a crash leaves.
	folder := filepath.Join(t.TempDir(), folderPrefix+"1")
	done(t, os.MkdirAll(filepath.Join(folder, "az1"), 0o755))
	slot, _, err := takeSlot(t.Context(), folder)
	done(t, err)
	dead, err := newNetwork(t.Context(), slot, []string{"az1"})
	done(t, err)
	done(t, errors.Join(slot.lock.Close(), dead.relay.close(), dead.rules.close()))
	next, _, err := takeSlot(t.Context(), "")
	done(t, err)
	defer func() { done(t, next.release()) }()
	// Another lab that starts at this moment may be the one that removes it.
	gone(t, filepath.Join(namespaceFolder, slot.namespace(router)), filepath.Join(namespaceFolder, slot.namespace("az1")),
		"/sys/class/net/"+slot.link(), folder)
	a.reaches(first.mailbox(t, "az2", 0), true)
	b.reaches(second.mailbox(t, "az2", 0), true)

	// A folder that no lab made is nobody's to remove, and what ended in order
	// leaves no word of its folder.
	for _, name := range []string{"mine", folderPrefix + "2"} {
		kept := filepath.Join(t.TempDir(), name)
		done(t, os.Mkdir(kept, 0o755))
		slot, _, err := takeSlot(t.Context(), kept)
		done(t, err)
		if name == "mine" {
			done(t, slot.lock.Close())
		} else {
			done(t, slot.release())
		}
		again, _, err := takeSlot(t.Context(), "")
		done(t, errors.Join(err, again.release()))
		if _, err := os.Stat(kept); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

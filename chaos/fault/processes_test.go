package fault

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func zonesOfParts(t testing.TB) *machine {
	return newMachine(t, "az1/edge", "az1/etcd", "az2/edge", "az2/etcd", "w1/consul")
}

// TestKill: what is named dies, the others live, and mended all serve; no part
// is started that was not killed.
func TestKill(t *testing.T) {
	for _, test := range []struct {
		spec  Spec
		left  []string
		words string
	}{
		{Spec{Kind: "kill", Parts: []string{"az1/*"}}, []string{"az2/edge", "az2/etcd", "w1/consul"}, "kill az1/edge, az1/etcd"},
		{Spec{Kind: "subset-crash", Parts: []string{"*/edge"}}, []string{"az1/etcd", "az2/etcd", "w1/consul"}, "crash az1/edge, az2/edge"},
		{Spec{Kind: "etcd-gone"}, []string{"az1/edge", "az2/edge", "w1/consul"}, "kill all of etcd: az1/etcd, az2/etcd"},
		{Spec{Kind: "consul-gone"}, []string{"az1/edge", "az1/etcd", "az2/edge", "az2/etcd"}, "kill all of Consul: w1/consul"},
		{Spec{Kind: "etcd-leader-kill"}, []string{"az1/edge", "az1/etcd", "az2/edge", "w1/consul"}, "kill etcd's leader"},
	} {
		t.Run(test.spec.Kind, func(t *testing.T) {
			m := zonesOfParts(t)
			f := create(t, test.spec, m)
			if f.String() != test.words {
				t.Errorf("it is called %q, want %q", f, test.words)
			}
			broken(t, f)
			same(t, "serving", m.serving(), test.left)
			if err := f.Break(limited(t)); err == nil || !strings.Contains(err.Error(), "broken already") {
				t.Errorf("broken twice: %v", err)
			}
			m.asked()
			mended(t, f)
			same(t, "serving after mending", m.serving(), m.names)
			if starts := len(m.asked()); starts != len(m.names)-len(test.left) {
				t.Errorf("%d parts were started", starts)
			}
			broken(t, f) // and again
			same(t, "serving, broken again", m.serving(), test.left)
			mended(t, f)
		})
	}
}

// TestKillInPart: where one cannot be killed, the others are, and are started
// again; what cannot be started is tried again by the next Mend.
func TestKillInPart(t *testing.T) {
	m := zonesOfParts(t)
	refused, late := errors.New("not permitted"), errors.New("no room")
	m.fail["killed az1/etcd"] = refused
	m.fail["start az1/edge"] = late
	f := create(t, Spec{Kind: "kill", Parts: []string{"az1/*", "w1/*"}}, m)
	if err := f.Break(limited(t)); !errors.Is(err, refused) {
		t.Errorf("break: %v", err)
	}
	same(t, "serving", m.serving(), []string{"az1/etcd", "az2/edge", "az2/etcd"})
	if err := f.Mend(limited(t)); !errors.Is(err, late) {
		t.Errorf("mend: %v", err)
	}
	same(t, "serving after the first try", m.serving(), []string{"az1/etcd", "az2/edge", "az2/etcd", "w1/consul"})
	m.fail = nil
	mended(t, f)
	same(t, "serving after the second", m.serving(), m.names)
}

// TestKillDead: a part that has ended by itself is named, and is not started.
func TestKillDead(t *testing.T) {
	m := zonesOfParts(t)
	first, second := create(t, Spec{Kind: "kill", Parts: []string{"az1/edge"}}, m), create(t, Spec{Kind: "kill", Parts: []string{"az1/*"}}, m)
	broken(t, first)
	if err := second.Break(limited(t)); !errors.Is(err, os.ErrProcessDone) || !strings.Contains(err.Error(), "az1/edge") {
		t.Errorf("break: %v", err)
	}
	mended(t, second)
	same(t, "serving", m.serving(), []string{"az1/etcd", "az2/edge", "az2/etcd", "w1/consul"})
	mended(t, first)
	same(t, "serving", m.serving(), m.names)
}

// slipping panics where a part is to be started.
type slipping struct{ *machine }

func (slipping) Start(context.Context, string) error { panic("a slip") }

// TestStartSlips: a panic is an error of the mending, which is tried again.
func TestStartSlips(t *testing.T) {
	m := zonesOfParts(t)
	down := &downed{processes: slipping{m}}
	if err := down.end(limited(t), []string{"az1/edge"}, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := down.start(limited(t)); err == nil || !strings.Contains(err.Error(), "start az1/edge: panic: a slip") {
		t.Errorf("start: %v", err)
	}
	down.processes = m
	if err := down.start(limited(t)); err != nil {
		t.Error(err)
	}
	same(t, "serving", m.serving(), m.names)
}

func TestEtcdLeaderUnknown(t *testing.T) {
	m := zonesOfParts(t)
	m.fail["leader"] = errors.New("no leader")
	f := create(t, Spec{Kind: "etcd-leader-kill"}, m)
	if err := f.Break(limited(t)); !errors.Is(err, m.fail["leader"]) {
		t.Errorf("break: %v", err)
	}
	mended(t, f)
	same(t, "asked", m.asked(), nil)
}

// TestFreeze: a frozen process takes connections and answers nothing; thawed,
// the same process goes on.
func TestFreeze(t *testing.T) {
	m := zonesOfParts(t)
	before := m.ask("az1/edge")
	f := create(t, Spec{Kind: "freeze", Parts: []string{"az1/*"}}, m)
	broken(t, f)
	eventually(t, "az1 is silent", func() error { // a signal takes a moment
		if found := m.serving(); !slices.Equal(found, []string{"az2/edge", "az2/etcd", "w1/consul"}) {
			return fmt.Errorf("%q answer", found)
		}
		return nil
	})
	m.asked()
	mended(t, f)
	same(t, "asked", m.asked(), []string{"continued az1/etcd", "continued az1/edge"})
	if after := m.ask("az1/edge"); after != before {
		t.Errorf("it was %s, now %s", before, after)
	}
	same(t, "serving after mending", m.serving(), m.names)
}

// TestFreezeInPart: only what was frozen is let go on, and what was killed
// meanwhile is no error.
func TestFreezeInPart(t *testing.T) {
	m := zonesOfParts(t)
	m.fail["stopped (signal) az1/etcd"] = errors.New("not permitted")
	f := create(t, Spec{Kind: "freeze", Parts: []string{"az1/*"}}, m)
	if err := f.Break(limited(t)); !errors.Is(err, m.fail["stopped (signal) az1/etcd"]) {
		t.Errorf("break: %v", err)
	}
	m.asked()
	if err := m.parts["az1/edge"].command.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-m.parts["az1/edge"].ended
	mended(t, f)
	same(t, "asked", m.asked(), []string{"continued az1/edge"})
}

// TestRestart: other processes, at the same addresses; nothing to mend.
func TestRestart(t *testing.T) {
	m := zonesOfParts(t)
	before := m.ask("az1/edge")
	f := create(t, Spec{Kind: "restart", Parts: []string{"az1/*"}, Delay: time.Millisecond}, m)
	broken(t, f)
	if after := m.ask("az1/edge"); after == "" || after == before {
		t.Errorf("it was %s, now %s", before, after)
	}
	asked := m.asked()
	slices.Sort(asked[2:]) // they start together
	same(t, "asked", asked, []string{"terminated az1/edge", "terminated az1/etcd", "start az1/edge", "start az1/etcd"})
	mended(t, f)
	same(t, "asked to mend", m.asked(), nil)
}

// TestRestartCutShort: told to stop while it is down, Mend brings it back.
func TestRestartCutShort(t *testing.T) {
	m := zonesOfParts(t)
	f := create(t, Spec{Kind: "restart", Parts: []string{"az1/edge"}, Delay: time.Minute}, m)
	ctx, cancel := context.WithCancel(limited(t))
	ended := make(chan error)
	go func() { ended <- f.Break(ctx) }()
	eventually(t, "az1/edge is down", func() error {
		if m.ask("az1/edge") != "" {
			return errors.New("it serves")
		}
		return nil
	})
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("break: %v", err)
	}
	mended(t, f)
	same(t, "serving", m.serving(), m.names)
}

// otherProgram is another version of the parts' program.
func otherProgram(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "other")
	self, err := os.Executable()
	if err == nil {
		err = os.Symlink(self, path)
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// TestRollingUpgrade: one edge after another, and back in reverse.
func TestRollingUpgrade(t *testing.T) {
	m := zonesOfParts(t)
	other := otherProgram(t)
	f := create(t, Spec{Kind: "rolling-upgrade", Binary: other}, m)
	broken(t, f)
	for _, part := range []string{"az1/edge", "az2/edge"} {
		if !strings.HasPrefix(m.ask(part), other+" ") {
			t.Errorf("%s is %s", part, m.ask(part))
		}
		if asked := m.get(part, "/asked"); asked != fmt.Sprint(readyAt) {
			t.Errorf("%s was asked %s times whether it is ready", part, asked)
		}
	}
	same(t, "asked", m.asked(), []string{
		"binary az1/edge other", "terminated az1/edge", "start az1/edge",
		"binary az2/edge other", "terminated az2/edge", "start az2/edge",
	})
	mended(t, f)
	same(t, "asked to mend", m.asked(), []string{
		"binary az2/edge .", "terminated az2/edge", "start az2/edge",
		"binary az1/edge .", "terminated az1/edge", "start az1/edge",
	})
	if said := m.ask("az1/edge"); !strings.HasPrefix(said, os.Args[0]+" ") {
		t.Errorf("az1/edge is %s", said)
	}
}

// TestRollingUpgradeCrashes: a part whose other program has crashed since is
// started as what it was.
func TestRollingUpgradeCrashes(t *testing.T) {
	m := zonesOfParts(t)
	f := create(t, Spec{Kind: "rolling-upgrade", Binary: otherProgram(t), Parts: []string{"az2/edge"}, Delay: time.Minute}, m)
	broken(t, f)
	if err := m.parts["az2/edge"].command.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-m.parts["az2/edge"].ended
	mended(t, f)
	if said := m.ask("az2/edge"); !strings.HasPrefix(said, os.Args[0]+" ") {
		t.Errorf("az2/edge is %s", said)
	}
}

// TestRollingUpgradeFails: an upgrade that does not start goes no further, and
// is rolled back; so is one that could not even begin.
func TestRollingUpgradeFails(t *testing.T) {
	for _, test := range []struct {
		fails string
		mends []string
	}{
		{"start az1/edge", []string{"binary az1/edge .", "start az1/edge"}},
		{"terminated az1/edge", []string{"binary az1/edge ."}},
		{"binary az1/edge other", []string{"binary az1/edge ."}},
		{"start az2/edge", []string{"binary az2/edge .", "start az2/edge", "binary az1/edge .", "terminated az1/edge", "start az1/edge"}},
	} {
		t.Run(test.fails, func(t *testing.T) {
			m := zonesOfParts(t)
			m.fail[test.fails] = errors.New("refused")
			f := create(t, Spec{Kind: "rolling-upgrade", Binary: otherProgram(t)}, m)
			if err := f.Break(limited(t)); !errors.Is(err, m.fail[test.fails]) {
				t.Errorf("break: %v", err)
			}
			m.fail = nil
			m.asked()
			mended(t, f)
			same(t, "asked to mend", m.asked(), test.mends)
			same(t, "serving", m.serving(), m.names)
			if said := m.ask("az1/edge"); !strings.HasPrefix(said, os.Args[0]+" ") {
				t.Errorf("az1/edge is %s", said)
			}
		})
	}
}

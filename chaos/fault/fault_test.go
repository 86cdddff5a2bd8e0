package fault

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// bare is a target that has parts and no other means.
type bare struct{ Processes }

// commanded does kills by means of its own.
type commanded struct{ asked []Spec }

func (c *commanded) Command(spec Spec) (Fault, bool) {
	c.asked = append(c.asked, spec)
	return &plan{what: "by command"}, spec.Kind == "kill"
}

// TestKinds: the kinds that drills are written with.
func TestKinds(t *testing.T) {
	same(t, "kinds", Kinds(), []string{
		"asymmetric-partition", "bad-configuration", "certificate-expired", "clock-jump", "consul-gone", "cpu-squeeze", "etcd-gone", "etcd-leader-kill",
		"freeze", "gossip-loss", "kill", "loss", "memory-squeeze", "one-way-partition", "partition", "registration-storm",
		"restart", "rolling-upgrade", "slow-link", "subset-crash", "subset-errors", "subset-slow",
	})
}

// everything is what each kind needs, and nothing more.
func everything(t testing.TB) []Spec {
	return []Spec{
		{Kind: "asymmetric-partition", From: []string{"az1"}, To: []string{"az2"}, Seed: 1},
		{Kind: "bad-configuration", Zones: []string{"az1"}, Flaw: "syntax"},
		{Kind: "certificate-expired", Zones: []string{"az1"}},
		{Kind: "clock-jump", Zones: []string{"az1"}, Jump: -time.Hour},
		{Kind: "consul-gone"},
		{Kind: "cpu-squeeze", Parts: []string{"az1/edge"}, CPU: 5},
		{Kind: "etcd-gone"},
		{Kind: "etcd-leader-kill"},
		{Kind: "freeze", Parts: []string{"az1/edge"}},
		{Kind: "gossip-loss", From: []string{"az1"}, Port: 7946},
		{Kind: "kill", Parts: []string{"az1/edge"}},
		{Kind: "loss", From: []string{"az1"}, Percent: 30},
		{Kind: "memory-squeeze", Parts: []string{"az1/edge"}, Memory: 64 << 20},
		{Kind: "one-way-partition", From: []string{"az1"}},
		{Kind: "partition", From: []string{"az1"}},
		{Kind: "registration-storm", Zones: []string{"az1"}, Count: 10, Rate: 10},
		{Kind: "restart", Parts: []string{"az1/edge"}},
		{Kind: "rolling-upgrade", Binary: otherProgram(t.(*testing.T))},
		{Kind: "slow-link", From: []string{"az1"}, Delay: time.Second},
		{Kind: "subset-crash", Parts: []string{"az1/edge"}},
		{Kind: "subset-errors", Parts: []string{"az1/edge"}, Percent: 50},
		{Kind: "subset-slow", Parts: []string{"az1/edge"}, Delay: time.Second},
	}
}

// whole is a target that can do everything.
type whole struct {
	*machine
	*network
	*zoneMeans
}

// TestNew: each kind is possible where the target has what it needs, and
// refused where it has not, before anything is broken.
func TestNew(t *testing.T) {
	m := newMachine(t, "az1/edge", "az1/etcd", "az1/consul")
	n := &network{nodes: []string{"az1", "az2", "w1"}}
	target := whole{m, n, &zoneMeans{documents: "documents.yaml", clock: "clock"}}
	var kinds []string
	for _, spec := range everything(t) {
		kinds = append(kinds, spec.Kind)
		if _, err := New(spec, target); err != nil {
			t.Errorf("%+v: %v", spec, err)
		}
		for what, target := range map[string]any{"nothing": nil, "parts alone": bare{m}} {
			f, err := New(spec, target)
			possible := what != "nothing" && slices.Contains([]string{"kill", "freeze", "restart", "subset-crash", "etcd-gone", "consul-gone"}, spec.Kind)
			if possible != (err == nil) || !possible && (!errors.Is(err, ErrUnsupported) || !strings.HasPrefix(err.Error(), "fault "+spec.Kind+": ")) {
				t.Errorf("%s on a target that has %s: %v, %v", spec.Kind, what, f, err)
			}
		}
	}
	same(t, "kinds of this test", kinds, Kinds())
	same(t, "asked", slices.Concat(m.asked(), n.asked(), target.zoneMeans.asked()), nil)
}

// TestNewWithout: parts or means that the target has none of.
func TestNewWithout(t *testing.T) {
	m := newMachine(t, "az1/edge")
	for _, spec := range []Spec{
		{Kind: "etcd-gone"},
		{Kind: "consul-gone"},
		{Kind: "etcd-leader-kill"},
		{Kind: "clock-jump", Zones: []string{"az1"}, Jump: time.Hour},
		{Kind: "bad-configuration", Zones: []string{"az1"}, Flaw: "syntax"},
		{Kind: "partition", From: []string{"az1"}},
	} {
		if f, err := New(spec, whole{m, &network{}, &zoneMeans{}}); !errors.Is(err, ErrUnsupported) {
			t.Errorf("%s: %v, %v", spec.Kind, f, err)
		}
	}
}

// TestNewRefuses: what is wrong is named.
func TestNewRefuses(t *testing.T) {
	m := newMachine(t, "az1/edge", "az2/edge")
	n := &network{nodes: []string{"az1", "az2"}}
	target := whole{m, n, &zoneMeans{documents: "documents.yaml", clock: "clock"}}
	for _, test := range []struct {
		spec  Spec
		names []string
	}{
		{Spec{Kind: "meteor"}, []string{`"meteor"`, "known are asymmetric-partition, bad-configuration"}},
		{Spec{}, []string{`kind ""`}},
		{Spec{Kind: "kill"}, []string{"fault kill", `needs "parts"`}},
		{Spec{Kind: "kill", Parts: []string{"az3/*"}}, []string{`"az3/*" matches none of az1/edge, az2/edge`}},
		{Spec{Kind: "kill", Parts: []string{"az1/*", "*"}}, []string{`"*" matches none`}},
		{Spec{Kind: "kill", Parts: []string{"[az1"}}, []string{`"[az1"`, "syntax error"}},
		{Spec{Kind: "kill", Parts: []string{""}}, []string{"parts is out of range"}},
		{Spec{Kind: "kill", Parts: []string{"*/*"}, Percent: 5}, []string{`no use for "percent"`, "it takes parts"}},
		{Spec{Kind: "loss", From: []string{"az1"}, Percent: 101}, []string{"percent is out of range", "1 to 100"}},
		{Spec{Kind: "loss", From: []string{"az1"}, Percent: -1}, []string{"percent is out of range"}},
		{Spec{Kind: "loss", From: []string{"az9"}, Percent: 1}, []string{`"az9" matches none of az1, az2`}},
		{Spec{Kind: "partition", From: []string{"*"}}, []string{"to is left with none"}},
		{Spec{Kind: "partition", From: []string{"az1"}, To: []string{"az1"}}, []string{"no link from az1 to itself"}},
		{Spec{Kind: "slow-link", From: []string{"az1"}}, []string{`needs "delay" or "rate"`}},
		{Spec{Kind: "slow-link", From: []string{"az1"}, Delay: time.Hour}, []string{"delay is out of range"}},
		{Spec{Kind: "slow-link", From: []string{"az1"}, Rate: 999}, []string{"rate is 999 bytes/s"}},
		{Spec{Kind: "slow-link", From: []string{"az1"}, Rate: -1}, []string{"rate is out of range"}},
		{Spec{Kind: "gossip-loss", From: []string{"az1"}, Port: 65536}, []string{"port is out of range"}},
		{Spec{Kind: "clock-jump", Zones: []string{"az1"}, Jump: maxJump + 1}, []string{"jump is out of range"}},
		{Spec{Kind: "clock-jump", Zones: []string{"az7"}, Jump: 1}, []string{`"az7" matches none of az1, az2`}},
		{Spec{Kind: "bad-configuration", Zones: []string{"az1"}, Flaw: "rude"}, []string{"flaw is out of range", "syntax, unknown-field, invalid"}},
		{Spec{Kind: "registration-storm", Zones: []string{"az1"}, Count: maxCount + 1, Rate: 1}, []string{"count is out of range"}},
		{Spec{Kind: "registration-storm", Zones: []string{"az1"}, Count: 1, Rate: maxRate + 1}, []string{"rate is 10001"}},
		{Spec{Kind: "memory-squeeze", Parts: []string{"*/edge"}, Memory: 1}, []string{"memory is out of range"}},
		{Spec{Kind: "cpu-squeeze", Parts: []string{"*/edge"}, CPU: maxCPU + 1}, []string{"cpu is out of range"}},
		{Spec{Kind: "rolling-upgrade", Binary: "/no/such/program"}, []string{"/no/such/program", "no such file"}},
		{Spec{Kind: "rolling-upgrade", Binary: "fault_test.go"}, []string{"fault_test.go is not a program"}},
	} {
		f, err := New(test.spec, target)
		if err == nil {
			t.Errorf("%+v is taken: %s", test.spec, f)
			continue
		}
		for _, name := range test.names {
			if !strings.Contains(err.Error(), name) {
				t.Errorf("%+v: %q does not say %q", test.spec, err, name)
			}
		}
	}
	same(t, "asked", slices.Concat(m.asked(), n.asked(), target.zoneMeans.asked()), nil)
}

// TestCommands: a target's own means come first, also without what the kind
// needs otherwise; what they do not do is done as ever.
func TestCommands(t *testing.T) {
	target := &commanded{}
	if f, err := New(Spec{Kind: "kill"}, target); err != nil || f.String() != "by command" {
		t.Errorf("kill: %v, %v", f, err)
	}
	if f, err := New(Spec{Kind: "freeze", Parts: []string{"*"}}, target); !errors.Is(err, ErrUnsupported) {
		t.Errorf("freeze: %v, %v", f, err)
	}
	if f, err := New(Spec{Kind: "kill", Percent: 1000}, target); err == nil {
		t.Errorf("a kill that is ill-formed: %v", f)
	}
	if len(target.asked) != 2 {
		t.Errorf("asked for %+v", target.asked)
	}
}

// TestSpecYAML: the names that drills are written with.
func TestSpecYAML(t *testing.T) {
	const text = "{kind: k, parts: [p], from: [f], to: [t], client: true, zones: [z], percent: 1, delay: 2s, rate: 3, " +
		"jump: -4s, count: 5, memory: 6, cpu: 7, port: 8, binary: b, seed: 9, flaw: w}"
	var found Spec
	decoder := yaml.NewDecoder(strings.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(&found); err != nil {
		t.Fatal(err)
	}
	if len(found.given()) != 16 {
		t.Errorf("%d fields are given: %+v", len(found.given()), found)
	}
	if found.Delay != 2*time.Second || found.Jump != -4*time.Second || found.Rate != 3 || found.CPU != 7 {
		t.Errorf("decoded %+v", found)
	}
}

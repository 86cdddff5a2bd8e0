package chaos

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// good is a drill that uses every field.
const good = `name: x
about: it proves something
load:
  rate: 100
  duration: 10s
  timeout: 1s
  reconnect_after: 5
  streams:
    - {via: edges, share: 2, edges: {az1: 1, az2: 3}, tls: true}
    - {via: dns, share: 1}
  mix: {untagged: 1, permissive: 1, strict: 1, posts_percent: 10}
steady: {for: 1s, slow: 100ms}
faults:
  - at: 2s
    for: 3s
    loses: [az1]
    do:
      - {kind: partition, from: [az1], client: true}
      - {kind: kill, parts: ["az1/*"]}
slo: {lost_idempotent_percent: 0, lost_percent: 1, fallbacks: 0, in_band: 1s, dns: 5s, p99: 1s, p99_untagged: 1s,
  detected: {within: 5s, by: [gossip, health]}}
needs_dns: true
budget_percent: 5
`

func TestDecode(t *testing.T) {
	d, err := DecodeDrill("x.yaml", []byte(good))
	if err != nil {
		t.Fatal(err)
	}
	if seen := d.SLO.Detected; seen.Within != 5*time.Second || !slices.Equal(seen.Of, []string{"az1"}) || len(seen.By) != 2 || !d.NeedsDNS {
		t.Errorf("decoded %+v", d)
	}
	if d.Load.Streams[0].Edges["az2"] != 3 || d.Faults[0].Do[1].Kind != "kill" || *d.SLO.Lost != 1 || d.SLO.Fallbacks == nil {
		t.Errorf("decoded %+v", d)
	}
	for _, c := range []struct {
		name, replace, with string
		says                []string
	}{
		{"unknown field", "budget_percent: 5", "budget: 5", []string{"x.yaml:23: field budget not found"}},
		{"unknown fault", "kind: kill", "kind: explode", []string{`x.yaml:19: faults[0].do[1]: fault kind "explode" is not known; known are`}},
		{"unknown field of a fault", `parts: ["az1/*"]`, "part: az1", []string{"x.yaml:19: field part not found"}},
		{"field of no use to a fault", `parts: ["az1/*"]`, "percent: 5", []string{"x.yaml:19: faults[0].do[1]: fault kill: it has no use for"}},
		{"fault after the end", "at: 2s", "at: 9s", []string{"x.yaml:15: faults[0].for: found 3s from 9s on, which is not within the load's 10s"}},
		{"fault at the end", "at: 2s", "at: 10s", []string{"faults[0].at: found 10s, allowed from 0 and before the load's end at 10s"}},
		{"wrong type", "rate: 100", "rate: many", []string{"x.yaml:4: cannot unmarshal", "many"}},
		{"zero rate", "rate: 100", "rate: 0", []string{"x.yaml:4: load.rate: found 0, allowed 1 to 20000"}},
		{"rate too high", "rate: 100", "rate: 20001", []string{"x.yaml:4: load.rate"}},
		{"nothing sent", "untagged: 1, permissive: 1, strict: 1", "untagged: 0", []string{"x.yaml:11: load.mix: sends nothing"}},
		{"unknown way", "via: dns", "via: pigeon", []string{`x.yaml:10: load.streams[1].via: found "pigeon"`}},
		{"edges of dns", "{via: dns, share: 1}", "{via: dns, share: 1, edges: {az1: 1}}", []string{"x.yaml:10: load.streams[1].edges"}},
		{"dns not measured", "    - {via: dns, share: 1}\n", "", []string{"slo.dns: is judged by a stream via dns"}},
		{"nothing about DNS", "    - {via: dns, share: 1}\n", "", []string{"needs_dns: is of a drill with a stream via dns"}},
		{"nothing untagged", "untagged: 1,", "untagged: 0,", []string{"x.yaml:20: slo.p99_untagged: is judged by untagged requests"}},
		{"no way to notice", "by: [gossip, health]", "by: [gossip, dreams]", []string{`x.yaml:21: slo.detected.by[1]: found "dreams", allowed gossip, failover, requests, health, registry, configuration`}},
		{"a sign of nowhere", "by: [gossip", `of: [""], by: [gossip`, []string{"x.yaml:21: slo.detected.of[0]: is empty"}},
		{"a sign at any time", "within: 5s, by", "by", []string{"slo.detected.within: is missing"}},
		{"no budget", "budget_percent: 5", "", []string{"budget_percent: found 0"}},
		{"budget not a number", "budget_percent: 5", "budget_percent: .nan", []string{"x.yaml:23: budget_percent: found NaN"}},
		{"no name", "name: x", "name: \"\"", []string{"x.yaml:1: name"}},
		{"two at once", "rate: 100\n  duration: 10s", "rate: 0\n  duration: 2h", []string{"load.rate", "load.duration"}},
		{"another document", "budget_percent: 5", "budget_percent: 5\n---\nname: y", []string{"x.yaml: more than one YAML document"}},
		{"no YAML", "name: x", "name: [", []string{"x.yaml"}},
		{"share of nothing", "share: 2", "share: -1", []string{"x.yaml:9: load.streams[0].share: found -1, allowed 1 to 1000"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if !strings.Contains(good, c.replace) {
				t.Fatalf("%q is not in the drill", c.replace)
			}
			_, err := DecodeDrill("x.yaml", []byte(strings.Replace(good, c.replace, c.with, 1)))
			if err == nil {
				t.Fatal("it was taken")
			}
			for _, words := range c.says {
				if !strings.Contains(err.Error(), words) {
					t.Errorf("it says\n%v\nand not %q", err, words)
				}
			}
		})
	}
	if _, err := DecodeDrill("x.yaml", nil); err == nil || !strings.Contains(err.Error(), "x.yaml: is empty") {
		t.Errorf("an empty file: %v", err)
	}
}

func TestCatalogue(t *testing.T) {
	drills, err := Catalogue()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, d := range drills {
		names = append(names, d.Name)
		if found, err := Find(d.Name); err != nil || found.Name != d.Name {
			t.Errorf("find %s: %+v, %v", d.Name, found, err)
		}
		if !d.NeedsDNS && !slices.ContainsFunc(d.Load.Streams, func(s Stream) bool { return s.Via == ViaEdges }) {
			t.Errorf("%s sends all by DNS and does not say that it needs it", d.Name)
		}
	}
	const want = "asymmetric-partition az-loss az-loss-both-primaries az-partition bad-config cert-expiry consul-outage edge-freeze edge-kill " +
		"error-subset etcd-leader-kill etcd-outage gossip-loss one-way-partition registration-storm rolling-upgrade " +
		"slow-subset subset-crash total-control-plane-loss"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("the catalogue has\n%s\nwant\n%s", got, want)
	}
	if _, err := Find("az-los"); err == nil || !strings.Contains(err.Error(), "az-loss") {
		t.Errorf("a name that is none: %v", err)
	}
	file := filepath.Join(t.TempDir(), "own.yaml")
	if err := os.WriteFile(file, []byte(good), 0o600); err != nil {
		t.Fatal(err)
	}
	if d, err := Find(file); err != nil || d.Name != "x" {
		t.Errorf("a file: %+v, %v", d, err)
	}
}

func FuzzDecodeDrill(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte("faults: [{do: [{kind: kill}]}]"))
	f.Add([]byte("a: &a [*a, *a]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := DecodeDrill("x.yaml", data)
		if err != nil {
			return
		}
		// What is taken can be laid out.
		target := testTarget("az1", "az2", "az3")
		p := newPlanner(&d.Load, target)
		for range 100 {
			if len(p.lanes) > 0 {
				p.next()
			}
		}
	})
}

func FuzzReadTarget(f *testing.F) {
	f.Add([]byte("name: x\nedges: [{zone: az1, data: http://127.0.0.1:1, admin: http://127.0.0.1:2}]\nrequest: {path: /, baseline: v1}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var file targetFile
		places, err := decode("x.yaml", data, &file)
		if err != nil {
			return
		}
		p := &problems{file: "x.yaml", places: places}
		file.check(p)
		if p.err() != nil {
			return
		}
		if file.CAFile != "" || len(file.Edges) > 0 && file.Edges[0].TokenFile != "" {
			return // would read this machine's files
		}
		if target, err := file.target(t.TempDir()); err == nil {
			target.Close()
		}
	})
}

package gateway

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/grayfed/grayfed/edge/exchange"
	"github.com/grayfed/grayfed/edge/route"
	"github.com/grayfed/grayfed/federation"
)

var update = flag.Bool("update", false, "write the golden files anew")

// write puts an explanation down for people to review.
func (e *Explanation) write(out *strings.Builder) {
	fmt.Fprintf(out, "status %d, reason %s, path %s, route %q, service %q, tag %q counts %v, release %q, subset %q\n",
		e.Status, e.Reason, e.Path, e.Route, e.Service, e.Tag, e.TagCounts, e.Release, e.Subset)
	if e.Detail != "" {
		fmt.Fprintf(out, "  detail: %s\n", e.Detail)
	}
	if e.Allow != "" {
		fmt.Fprintf(out, "  allow: %s\n", e.Allow)
	}
	for _, s := range e.Steps {
		mark := " "
		if s.Chosen {
			mark = ">"
		}
		fmt.Fprintf(out, "%s %-18s %-9s %-4s %5.1f%% weight %d of %d: %s\n", mark, s.Rung, s.Subset, s.Zone, s.SharePercent, s.Weight, s.Full, s.Why)
	}
	if e.Chosen != nil {
		fmt.Fprintf(out, "  chosen %s on %s\n", e.Chosen.Instance.ID, e.Chosen.Rung)
	}
	for _, next := range e.Next {
		fmt.Fprintf(out, "  then %s on %s\n", next.Instance.ID, next.Rung)
	}
	if e.Panicking {
		out.WriteString("  panicking\n")
	}
}

// explainStage is the federation that the golden file is about.
func explainStage(t *testing.T) *rig {
	t.Helper()
	r := newRig(t, func(o *Options) {
		firstByID(o)
		o.PanicThreshold = 10
		o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	})
	config := usersConfig(federation.Permissive)
	config.Routes[0].Path = "/users/**"
	config.Routes[0].Methods = []string{"GET", "POST"}
	trusted := usersRoute()
	trusted.ID, trusted.Path, trusted.Tags = "trusted", "/internal", route.TagsTrusted
	config.Routes = append(config.Routes, trusted)
	config.Releases = append(config.Releases,
		&federation.Release{Name: "paused", Paused: true, Services: map[string]federation.Selector{"users": {Version: "v3"}}, Fallback: federation.Strict},
		&federation.Release{Name: "empty", Services: map[string]federation.Selector{"users": {Version: "v4"}}, Fallback: federation.Strict},
	)
	r.configure(config)
	r.register(
		instance("v1-a", "az1", "v1", "127.0.0.1:1"), instance("v1-b", "az2", "v1", "127.0.0.1:1"),
		instance("v1-c", "az3", "v1", "127.0.0.1:1"),
		instance("v2-a", "az1", "v2", "127.0.0.1:1"), instance("v2-b", "az1", "v2", "127.0.0.1:1"),
		instance("v2-c", "az2", "v2", "127.0.0.1:1"),
	)
	return r
}

func TestExplainGolden(t *testing.T) {
	r := explainStage(t)
	var out strings.Builder
	ask := func(name string, q Query, tags ...string) {
		for _, tag := range tags {
			q.Header = append(q.Header, exchange.Field{Name: "x-release-tag", Value: tag})
		}
		e := r.gateway.Explain(q)
		fmt.Fprintf(&out, "# %s\n", name)
		e.write(&out)
		out.WriteByte('\n')
	}
	users := Query{Host: "users.test:8080", Path: "/users/1"}
	ask("untagged", users)
	ask("in a release", users, "v2-beta")
	ask("a release that does not cover the service", users, "elsewhere")
	ask("unknown tag", users, "who-knows")
	ask("paused", users, "paused")
	ask("strict, no canary registered", users, "empty")
	ask("tag of a stranger", Query{Path: "/internal"}, "v2-beta")
	ask("tag of a trusted peer", Query{Path: "/internal", Peer: netip.MustParseAddr("10.0.0.1")}, "v2-beta")
	ask("no route", Query{Path: "/orders"})
	ask("method", Query{Method: "DELETE", Path: "/users/1"})
	ask("path", Query{Path: "/users/../../x"})
	ask("normal form", Query{Path: "/users/./%7e1"})
	ask("ill-formed tag", users, "a b")
	ask("two tags", users, "a", "b")

	drained := instance("v2-a", "az1", "v2", "127.0.0.1:1")
	drained.Draining = true
	r.put(drained)
	r.follow()
	for range 3 {
		r.endpoint("v2-b").tracker.ConnectFailure(1)
	}
	ask("canaries here draining and ejected", users, "v2-beta")
	r.gateway.SetZoneLost("az2", true)
	r.gateway.zoneFailed(r.gateway.zone("az2"), r.gateway.opts.Now())
	ask("and the other zone lost", users, "v2-beta")
	r.sick("v2-b", "v2-c")
	ask("no canary anywhere", users, "v2-beta")
	r.put(instance("v2-a", "az1", "v2", "127.0.0.1:1"))
	r.sick("v1-a", "v1-b", "v1-c", "v2-a", "v2-b", "v2-c")
	ask("panic", users, "v2-beta")

	golden(t, "explain.txt", out.String())
}

// sick has this edge's evidence say that exactly these are unhealthy.
func (r *rig) sick(ids ...string) {
	var records []federation.HealthRecord
	for _, e := range r.catalog.Snapshot().Service("users").Endpoints {
		status := federation.Healthy
		for _, id := range ids {
			if id == e.ID {
				status = federation.Unhealthy
			}
		}
		records = append(records, federation.HealthRecord{
			Subject: e.Key, Observer: "edge-1", Incarnation: 1, Seq: uint64(r.seq.Add(1)), Status: status, Percent: 100,
		})
	}
	r.catalog.ObserveHealth(r.gateway.opts.Now(), records...)
	r.follow()
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != got {
		t.Errorf("%s differs; got:\n%s", file, got)
	}
}

// What Explain says is what happens: the same queries, asked for real.
func TestExplainIsWhatHappens(t *testing.T) {
	r := newRig(t, firstByID)
	r.configure(usersConfig(federation.Permissive))
	r.stage(
		place{"v1-a", "az1", "v1", answering("v1-a")}, place{"v1-b", "az2", "v1", answering("v1-b")},
		place{"v2-a", "az1", "v2", answering("v2-a")}, place{"v2-b", "az2", "v2", answering("v2-b")},
	)
	ids := []string{"v1-a", "v1-b", "v2-a", "v2-b"}
	for mask := range 1 << len(ids) {
		var sick []string
		for n, id := range ids {
			if mask&(1<<n) != 0 {
				sick = append(sick, id)
			}
		}
		r.sick(sick...)
		for _, tag := range []string{"", "v2-beta", "elsewhere", "who-knows"} {
			q := Query{Path: "/"}
			var fields []string
			if tag != "" {
				q.Header = []exchange.Field{{Name: "x-release-tag", Value: tag}}
				fields = []string{"x-release-tag: " + tag}
			}
			e := r.gateway.Explain(q)
			a := r.ask("GET", "/", append(fields, explain)...)
			want := "rung=none; reason=" + e.Reason
			if e.Release != "" {
				want += "; release=" + e.Release
			}
			status := e.Status
			if e.Chosen != nil {
				status = 200
				want = "rung=" + e.Chosen.Rung + want[len("rung=none"):] + "; zone=" + e.Chosen.Instance.Zone + "; instance=" + e.Chosen.Instance.ID
			}
			if got := a.Header.Get("x-gray-decision"); got != want || a.StatusCode != status {
				t.Errorf("without %v, tag %q: explained %d %q, got %d %q", sick, tag, status, want, a.StatusCode, got)
			}
		}
	}
}

package config_test

import (
	"cmp"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/grayfed/grayfed/edge/config"
	"github.com/grayfed/grayfed/edge/rewrite"
	"github.com/grayfed/grayfed/edge/route"
	"github.com/grayfed/grayfed/federation"
)

// seeds adds every file of testdata.
func seeds(f *testing.F) {
	f.Helper()
	found, err := filepath.Glob("testdata/*/*.yaml")
	if err != nil || len(found) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	for _, file := range append(found, "testdata/accepted/routes.json") {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
}

// FuzzDocuments: no panic; what is refused says why; what is accepted makes a
// table and, written out again in full, is the same set.
func FuzzDocuments(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		documents, err := config.ParseDocuments([]config.File{{Name: "f", Data: data}})
		if err != nil {
			if documents != nil || err.Error() == "" {
				t.Fatalf("refused without a reason, or half: %v, %v", documents, err)
			}
			return
		}
		if _, err := route.NewTable(documents.RouteTable()); err != nil {
			t.Fatalf("accepted, but: %v", err)
		}
		again, err := config.ParseDocuments([]config.File{{Name: "f", Data: writeOut(t, documents)}})
		if len(documents.Routes)+len(documents.Services)+len(documents.Releases) == 0 {
			return
		}
		if err != nil {
			t.Fatalf("accepted, but not when written out again: %v\n%s", err, writeOut(t, documents))
		}
		if again.Hash != documents.Hash {
			t.Fatalf("written out again it has another hash: %v", config.Diff(documents, again))
		}
	})
}

// writeOut writes a set as JSON documents in full.
func writeOut(t *testing.T, d *config.Documents) []byte {
	type m = map[string]any
	var list []m
	add := func(kind config.Kind, name string, spec m) {
		list = append(list, m{"apiVersion": config.APIVersion, "kind": kind, "metadata": m{"name": name}, "spec": spec})
	}
	matches := func(in []route.Match) []m {
		out := []m{}
		for _, match := range in {
			item := m{"name": match.Name}
			switch {
			case match.Present != nil:
				item["present"] = *match.Present
			case match.Regex != "":
				item["regex"] = match.Regex
			default:
				item["exact"] = match.Exact
			}
			out = append(out, item)
		}
		return out
	}
	timeouts := func(t config.Timeouts) m {
		return m{
			"connect": t.Connect.String(), "tls": t.TLS.String(), "head": t.Head.String(),
			"idle": t.Idle.String(), "per_try": t.PerTry.String(), "total": t.Total.String(),
		}
	}
	selector := func(s federation.Selector) m { return m{"version": s.Version, "tags": s.Tags} }
	for i := range d.Routes {
		r := &d.Routes[i]
		spec := m{
			"host": r.Host, "path": r.Path, "methods": append([]string{}, r.Methods...), "headers": matches(r.Headers), "query": matches(r.Query),
			"priority": r.Priority, "upstream": r.Upstream.Text, "tags": r.Tags.String(), "explain": r.Explain,
			"timeouts": timeouts(r.Timeouts),
			"retries":  m{"attempts": r.Retries.Attempts, "on": r.Retries.On},
		}
		if r.Hash != nil {
			spec["hash"] = r.Hash
		}
		if r.RateLimit != nil {
			limit := m{"rpm": r.RateLimit.RPM}
			if r.RateLimit.Burst > 0 {
				limit["burst"] = r.RateLimit.Burst
			}
			spec["rate_limit"] = limit
		}
		rewritten(spec, &r.Rewrite)
		add(config.KindRoute, r.ID, spec)
	}
	for _, s := range d.Services {
		policy := d.Policies[s.Name]
		spec := m{
			"zone_capacity": s.ZoneCapacity, "health_path": s.HealthPath, "probe": cmp.Or(s.Probe, "http"), "balance": policy.Balance,
			"timeouts": timeouts(policy.Timeouts),
		}
		if policy.Hash != nil {
			spec["hash"] = policy.Hash
		}
		if policy.LoadBound > 0 {
			spec["load_bound"] = policy.LoadBound
		}
		if b := policy.Breaker; b != nil {
			custom := m{"failure_ratio": b.FailureRatio, "min_requests": b.MinRequests, "open_for": b.OpenFor.String()}
			if b.Window > 0 {
				custom["window"] = b.Window.String()
			}
			if b.Trials > 0 {
				custom["trials"] = b.Trials
			}
			spec["breaker"] = custom
		}
		if s.Baseline != nil {
			spec["baseline"] = selector(*s.Baseline)
		}
		limits := m{}
		if policy.MaxRequests > 0 {
			limits["max_requests"] = policy.MaxRequests
		}
		if policy.MaxServiceRequests > 0 {
			limits["max_service_requests"] = policy.MaxServiceRequests
		}
		if policy.Queue.Size > 0 {
			limits["queue"] = m{"size": policy.Queue.Size, "timeout": policy.Queue.Timeout.String()}
		}
		spec["limits"] = limits
		add(config.KindService, s.Name, spec)
	}
	for _, r := range d.Releases {
		services := m{}
		for name, s := range r.Services {
			services[name] = selector(s)
		}
		add(config.KindRelease, r.Name, m{"services": services, "fallback": r.Fallback, "paused": r.Paused})
	}
	data, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// rewritten writes a route's rewrites.
func rewritten(spec map[string]any, r *rewrite.Rule) {
	type m = map[string]any
	change := m{"host": r.Host.String()}
	if r.Path.StripPrefix != "" {
		change["strip_prefix"] = r.Path.StripPrefix
	}
	for name, p := range map[string]*rewrite.Replacement{"replace_prefix": r.Path.ReplacePrefix, "regex": r.Path.Regex} {
		if p != nil {
			change[name] = m{"from": p.From, "to": p.To}
		}
	}
	spec["rewrite"] = change
	for name, h := range map[string]*rewrite.Headers{"request_headers": &r.Request, "response_headers": &r.Response} {
		set, add := m{}, m{}
		for _, header := range h.Set {
			set[header.Name] = header.Value
		}
		for _, header := range h.Add {
			add[header.Name] = header.Value
		}
		spec[name] = m{"set": set, "add": add, "remove": append([]string{}, h.Remove...)}
	}
}

// FuzzProcess: no panic; what is refused says why; what is accepted is valid.
func FuzzProcess(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		process, err := config.ParseProcess("edge.yaml", data)
		if err != nil {
			if process != nil || err.Error() == "" {
				t.Fatalf("refused without a reason, or half: %v, %v", process, err)
			}
			return
		}
		if err := process.Validate(); err != nil {
			t.Fatalf("accepted, but: %v", err)
		}
	})
}

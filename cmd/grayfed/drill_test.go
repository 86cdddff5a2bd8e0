package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/grayfed/grayfed/chaos/report"
)

func TestDrillList(t *testing.T) {
	got := grayfed(t, "drill", "list")
	if got.code != 0 || strings.Count(got.stdout, "\n") != 20 || !strings.Contains(got.stdout, "\naz-loss ") {
		t.Errorf("exit code %d:\n%s%s", got.code, got.stdout, got.stderr)
	}
	var list []struct{ Name, Duration, About string }
	got = grayfed(t, "drill", "list", "-o", "json")
	if !strings.Contains(got.stdout, `"needs_dns": true`) {
		t.Errorf("none is about DNS:\n%s", got.stdout)
	}
	if err := json.Unmarshal([]byte(got.stdout), &list); err != nil || len(list) != 19 || list[1].Name != "az-loss" || list[1].Duration != "18s" {
		t.Errorf("%+v, %v", list, err)
	}
}

// writeFile writes a file of a test and returns its path.
func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// shortDrill is a drill of some seconds at a low rate.
func shortDrill(t *testing.T, faults, slo string) string {
	t.Helper()
	return writeFile(t, "short.yaml", fmt.Sprintf(`name: short
about: a short drill
load:
  rate: 50
  duration: 5s
  streams: [{via: edges, share: 1}]
  mix: {untagged: 1, permissive: 1, strict: 1, posts_percent: 20}
steady: {for: 500ms, slow: 3s}
faults: [%s]
slo: {%s}
budget_percent: 10
`, faults, slo))
}

// TestDrillIsRefused: called the wrong way it is 2, and what cannot be run is 3
// and named, with nothing broken.
func TestDrillIsRefused(t *testing.T) {
	nobody := writeFile(t, "target.yaml", `name: nobody
edges: [{zone: az1, data: "http://127.0.0.1:1", admin: "http://127.0.0.1:1"}]
request: {path: /, baseline: v1, permissive: {tag: a, version: b}, strict: {tag: c, version: b}}
faults: {kill: {break: ["touch", "/nonexistent"], mend: ["true"]}}
`)
	keyless := writeFile(t, "keyless.yaml", `name: nobody
edges:
  - {zone: az1, data: "http://127.0.0.1:1", admin: "https://127.0.0.1:1", ca_file: none.pem}
  - {zone: az2, data: "http://127.0.0.1:1", admin: "http://127.0.0.1:1", token_file: none}
request: {path: /, baseline: v1, permissive: {tag: a, version: b}, strict: {tag: c, version: b}}
faults: {kill: {break: ["true"], mend: ["true"]}}
`)
	drill := shortDrill(t, `{at: 1s, do: [{kind: kill, parts: ["az1/edge"]}]}`, "")
	for _, c := range []struct {
		args []string
		code int
		says []string
	}{
		{[]string{"drill", "walk"}, 2, []string{`no command "walk"`, "list", "run", "report"}},
		{[]string{"drill", "run"}, 2, []string{"name one drill"}},
		{[]string{"drill", "run", "edge-kill", "--runs", "0"}, 2, []string{"--runs", "1 to 1000"}},
		{[]string{"drill", "run", "edge-kill", "--seed", "-1"}, 2, []string{"--seed", "from 1"}},
		{[]string{"drill", "run", "edge-kill", "--rate", "-1"}, 2, []string{"--rate", "20000"}},
		{[]string{"drill", "report"}, 2, []string{"name reports"}},
		{[]string{"drill", "report", "--html", "x", "a", "b"}, 2, []string{"--html"}},
		{[]string{"drill", "run", "edge-kil"}, 3, []string{`no drill is named "edge-kil"`, "edge-kill"}},
		{[]string{"drill", "run", "none.yaml"}, 3, []string{"none.yaml"}},
		{[]string{"drill", "run", writeFile(t, "bad.yaml", "name: x\nnope: 1\n")}, 3, []string{"bad.yaml:2: field nope not found"}},
		{[]string{"drill", "run", drill, "--target", "none.yaml"}, 3, []string{"target file", "none.yaml"}},
		{[]string{"drill", "run", drill, "--target", nobody}, 3, []string{"the edge of az1 does not answer as it should", "connection refused"}},
		{[]string{"drill", "run", "consul-outage", "--target", "dev", "--dry-run"}, 3, []string{"drill consul-outage is about DNS, and target dev has none"}},
		{[]string{"drill", "run", "az-loss", "--target", "dev", "--dry-run"}, 3, []string{"fault partition"}},
		{[]string{"drill", "run", "az-loss", "--target", "dev"}, 3, []string{"fault partition"}},
		{[]string{"drill", "run", drill, "--target", keyless}, 3, []string{"target nobody: edge az1: ca_file: open", "edge az2: token_file: open"}},
		{[]string{"drill", "report", drill}, 1, []string{"short.yaml", "not a drill's report"}},
	} {
		var stdout, stderr strings.Builder
		code := run(context.Background(), c.args, &stdout, &stderr)
		if code != c.code || stdout.Len() > 0 {
			t.Errorf("%v: exit code %d, want %d; it printed %q", c.args, code, c.code, stdout.String())
		}
		for _, words := range c.says {
			if !strings.Contains(stderr.String(), words) {
				t.Errorf("%v said %q and not %q", c.args, stderr.String(), words)
			}
		}
		if strings.Contains(stderr.String(), "starting target") {
			t.Errorf("%v started its target for nothing: %q", c.args, stderr.String())
		}
	}
}

func TestDrillDryRun(t *testing.T) {
	out := filepath.Join(t.TempDir(), "reports")
	got := grayfed(t, "drill", "run", "edge-kill", "--dry-run", "--rate", "50", "--out", out)
	if _, err := os.Stat(out); err == nil {
		t.Error("it makes the folder for reports")
	}
	for _, words := range []string{"target  dev: az1, az2, az3", "break kill az1/edge", "50 requests/s for 14s, 700 in all",
		"must    steady state again: within 3m0s", "not judged: recovery by DNS: the target has no DNS"} {
		if got.code != 0 || !strings.Contains(got.stdout, words) {
			t.Errorf("exit code %d, %q is not in\n%s%s", got.code, words, got.stdout, got.stderr)
		}
	}
}

// drill runs one and returns its only run: passed, or begun on a machine that
// was too busy to tell, three times.
func drill(t *testing.T, args ...string) *report.Run {
	t.Helper()
	var got result
	var runs []*report.Run
	for range 3 {
		got = grayfed(t, append([]string{"drill", "run", "-o", "json"}, args...)...)
		runs = nil
		if err := json.Unmarshal([]byte(got.stdout), &runs); err == nil && got.code == 0 && len(runs) == 1 && runs[0].Verdict == report.Passed {
			return runs[0]
		}
		if !strings.Contains(got.stderr, tooBusy) {
			break
		}
	}
	if got.code != exitNotRun || len(runs) != 1 || !strings.Contains(runs[0].Reason, tooBusy) {
		t.Fatalf("exit code %d: %s%s", got.code, got.stdout, got.stderr)
	}
	return runs[0]
}

const tooBusy = "the load generator itself was late"

// TestDrillDev: an edge and the canaries of a zone die in dev, clients of the
// others notice nothing, and the reports say so.
func TestDrillDev(t *testing.T) {
	t.Parallel()
	file := shortDrill(t, `
  {at: 500ms, for: 1s, loses: [az1], do: [{kind: kill, parts: ["az1/edge"]}]},
  {at: 2s, for: 1500ms, do: [{kind: subset-crash, parts: ["az2/user-service v2-beta"]}]}
`, "lost_idempotent_percent: 0, detected: {within: 4s, by: [gossip]}")
	out := filepath.Join(t.TempDir(), "reports")
	r := drill(t, file, "--out", out)
	if r.Schema != report.Schema || r.Totals.Requests != 250 || r.Totals.InDeadEdge == 0 || r.Totals.Wrong != 0 || r.Version != "v0.0-test" || len(r.Faults) != 2 {
		t.Errorf("%s %s: schema %d, %+v", r.Verdict, r.Reason, r.Schema, r.Totals)
	}
	for _, mark := range r.Faults {
		if mark.Mended == 0 || mark.Error != "" {
			t.Errorf("%+v", mark)
		}
	}
	files, err := filepath.Glob(filepath.Join(out, "short-*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %v", files, err)
	}
	if text, err := os.ReadFile(strings.TrimSuffix(files[0], ".json") + ".html"); err != nil || !bytes.Contains(text, []byte("<html")) {
		t.Errorf("the page: %v", err)
	}
	if got := grayfed(t, append([]string{"drill", "report"}, files...)...); got.code != 0 || !strings.Contains(got.stdout, "short") {
		t.Errorf("exit code %d: %s%s", got.code, got.stdout, got.stderr)
	}
	page := filepath.Join(t.TempDir(), "page.html")
	if got := grayfed(t, "drill", "report", "--html", page, files[0]); got.code != 0 {
		t.Errorf("exit code %d: %s", got.code, got.stderr)
	}
	if _, err := os.Stat(page); err != nil {
		t.Error(err)
	}
}

// TestDrillLab: a zone goes silent and dies in a lab with a network of its own,
// and clients of the others, and by DNS, are served.
func TestDrillLab(t *testing.T) {
	t.Parallel()
	file := shortDrill(t, `
  {at: 500ms, for: 3s, loses: [az1], do: [{kind: partition, from: [az1], client: true}, {kind: kill, parts: ["az1/*"]}]}
`, "lost_idempotent_percent: 0, detected: {within: 3s, by: [gossip, requests]}")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text = bytes.Replace(text, []byte("{via: edges, share: 1}"), []byte("{via: edges, share: 1}, {via: dns, share: 1}"), 1)
	r := drill(t, writeFile(t, "lab.yaml", string(text)), "--target", "lab")
	if r.Totals.Requests != 250 || r.Totals.InDeadEdge == 0 || r.Recoveries[0].DNS == 0 {
		t.Errorf("%s %s: %+v %+v", r.Verdict, r.Reason, r.Totals, r.Recoveries)
	}
}

// deployment describes a running dev as a real deployment, with commands for
// its faults: kind, break and mend.
func deployment(t *testing.T, d *dev, faults ...string) string {
	t.Helper()
	var text strings.Builder
	text.WriteString("name: deployment\nedges:\n")
	for n, zone := range []string{"az1", "az2", "az3"} {
		fmt.Fprintf(&text, "  - {zone: %s, data: %q, admin: %q, standby: %v}\n", zone, d.data[n], d.admin[n], zone == "az3")
	}
	text.WriteString("request:\n  path: /api/v1/users/42\n  baseline: v1\n" +
		"  permissive: {tag: v2-beta, version: v2-beta}\n  strict: {tag: v2-beta, version: v2-beta}\nfaults:\n")
	for n := 0; n+2 < len(faults); n += 3 {
		fmt.Fprintf(&text, "  %s: {break: [sh, -c, %s], mend: [sh, -c, %s]}\n", faults[n], strconv.Quote(faults[n+1]), strconv.Quote(faults[n+2]))
	}
	return writeFile(t, "deployment.yaml", text.String())
}

// TestDrillDeployment: the commands of a target file kill and start real
// processes; an error budget and Ctrl-C end a drill with everything mended.
func TestDrillDeployment(t *testing.T) {
	t.Parallel()
	d := startDev(t)
	t.Run("kill", func(t *testing.T) { drillKills(t, d) })
	t.Run("budget", func(t *testing.T) { drillBurns(t, d) })
	t.Run("Ctrl-C", func(t *testing.T) {
		for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
			drillStops(t, d, s)
		}
	})
}

// drillKills kills the canary of az1, whose work that of az2 does.
func drillKills(t *testing.T, d *dev) {
	pids := d.processes("dev-instance", "zone az1", "version v2-beta")
	if len(pids) != 1 {
		t.Fatalf("%d processes", len(pids))
	}
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pids[0]))
	if err != nil {
		t.Fatal(err)
	}
	var command []string
	for _, word := range strings.Split(strings.TrimSuffix(string(raw), "\x00"), "\x00") {
		command = append(command, "'"+word+"'")
	}
	pid := filepath.Join(t.TempDir(), "pid")
	t.Cleanup(func() {
		text, err := os.ReadFile(pid)
		if err != nil {
			return
		}
		if n, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil {
			_ = syscall.Kill(n, syscall.SIGTERM)
		}
	})
	target := deployment(t, d, "subset-crash",
		fmt.Sprintf(`kill -9 %d && test "$GRAYFED_FAULT_PARTS" = 'az1/user-service v2-beta'`, pids[0]),
		fmt.Sprintf("setsid %s >/dev/null 2>&1 & echo $! >%s", strings.Join(command, " "), pid))
	file := shortDrill(t, `{at: 1s, for: 2s, do: [{kind: subset-crash, parts: ["az1/user-service v2-beta"]}]}`, "lost_idempotent_percent: 0, fallbacks: 0")
	got := grayfed(t, "drill", "run", file, "--target", target, "-o", "json")
	var runs []*report.Run
	if err := json.Unmarshal([]byte(got.stdout), &runs); err != nil || len(runs) != 1 {
		t.Fatalf("%v: %s", err, got.stderr)
	}
	r := runs[0]
	if late := strings.Contains(r.Reason, tooBusy); r.Verdict != report.Passed && !late || r.Totals.LostIdempotent != 0 || r.Totals.Wrong != 0 {
		t.Errorf("%s %s: %+v %+v", r.Verdict, r.Reason, r.Checks, r.Totals)
	}
	if len(d.processes("dev-instance", "zone az1", "version v2-beta")) != 1 {
		t.Error("the instance is not there again")
	}
}

// drillBurns stops an edge that is to serve: the drill ends long before its time,
// and the edge goes on.
func drillBurns(t *testing.T, d *dev) {
	pids := d.processes("/grayfed edge", filepath.Join("az2", "edge.yaml"))
	if len(pids) != 1 {
		t.Fatalf("%d processes", len(pids))
	}
	target := deployment(t, d, "freeze", fmt.Sprintf("kill -STOP %d", pids[0]), fmt.Sprintf("kill -CONT %d", pids[0]))
	file := shortDrill(t, `{at: 500ms, do: [{kind: freeze, parts: ["az2/edge"]}]}`, "")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for was, is := range map[string]string{"duration: 5s": "duration: 1h", "budget_percent: 10": "budget_percent: 0.01", "rate: 50": "rate: 50\n  timeout: 500ms"} {
		text = bytes.Replace(text, []byte(was), []byte(is), 1)
	}
	got := grayfed(t, "drill", "run", writeFile(t, "long.yaml", string(text)), "--target", target)
	if got.code != exitNotRun || !strings.Contains(got.stderr, "the error budget is burned") {
		t.Errorf("exit code %d: %s", got.code, got.stderr)
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pids[0]))
	if err != nil || strings.Contains(string(stat), ") T ") {
		t.Errorf("the edge is stopped still: %s, %v", stat, err)
	}
}

// drillStops stops a drill by signals, the second of which changes nothing, with
// nobody who reads what it says.
func drillStops(t *testing.T, d *dev, s syscall.Signal) {
	t.Helper()
	mark := filepath.Join(t.TempDir(), "broken")
	target := deployment(t, d, "freeze", "touch "+mark, "sleep 0.3; rm "+mark)
	file := shortDrill(t, `{at: 200ms, do: [{kind: freeze, parts: ["az2/edge"]}]}`, "")
	command := exec.Command(binary(t), "drill", "run", file, "--target", target)
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	command.Stdout, command.Stderr = writer, writer
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	_ = writer.Close()
	_ = reader.Close() // whoever read it has gone
	eventually(t, "something is broken", func() error { _, err := os.Stat(mark); return err })
	// Ctrl-Z does not keep it from hearing what follows.
	for _, s := range []syscall.Signal{syscall.SIGTSTP, s, s} {
		if err := command.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond) // two of one kind at once are one
	}
	// Once all is mended, it may die of telling nobody.
	_ = command.Wait()
	if status, ok := command.ProcessState.Sys().(syscall.WaitStatus); !ok || status.ExitStatus() != exitNotRun && status.Signal() != syscall.SIGPIPE {
		t.Errorf("%s: it ended by %s", s, command.ProcessState)
	}
	if _, err := os.Stat(mark); err == nil {
		t.Errorf("%s: it is broken still", s)
	}
}

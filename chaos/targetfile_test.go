package chaos

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/grayfed/grayfed/chaos/fault"
)

const goodTarget = `name: staging
edges:
  - {zone: az1, data: "http://203.0.113.1:8081", tls: "https://edge1.test:8443", addresses: ["203.0.113.1", "2001:db8::1"], admin: "https://edge1.test:9081", token_file: token}
  - {zone: az3, data: "http://203.0.113.3:8081", admin: "https://edge3.test:9081", standby: true}
dns: {servers: ["203.0.113.53:53"], name: gateway.example.test}
request:
  path: /users/1
  host: users.example.test
  baseline: v1
  permissive: {tag: beta, version: v2}
  strict: {tag: beta-strict, version: v2}
  version_header: X-Version
  zone_header: X-Zone
faults:
  kill: {break: ["true"], mend: ["true"], timeout: 5s}
`

func TestReadTarget(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "staging.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "token"), []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	write(goodTarget)
	target, err := ReadTarget(file)
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	if target.Name != "staging" || target.zones() != "az1, az3" || !target.Edges[1].Standby || target.Request.Strict.Tag != "beta-strict" ||
		target.DNS.Name != "gateway.example.test" || len(target.Edges[0].Addresses) != 2 || target.Edges[0].Client.URL() != "https://edge1.test:9081" {
		t.Errorf("%+v", target)
	}
	t.Chdir(dir)
	relative, err := ReadTarget("staging.yaml")
	if err != nil {
		t.Fatal(err)
	}
	defer relative.Close()
	if c := relative.Faults.(commands); c.dir != dir {
		t.Errorf("its commands run in %s, want %s", c.dir, dir)
	}
	addresses, err := target.addresses()
	if err != nil || len(addresses) != 3 {
		t.Errorf("%v, %v", addresses, err)
	}
	for _, c := range []struct{ name, replace, with, says string }{
		{"unknown field", "standby: true", "stand_by: true", "staging.yaml:4: field stand_by not found"},
		{"unknown kind", "kill:", "explode:", "staging.yaml:15: faults.explode: is no kind of fault"},
		{"nothing mends", `mend: ["true"]`, "mend: []", "staging.yaml:15: faults.kill.mend: is empty: what is broken must be mended"},
		{"no break", `break: ["true"]`, "break: []", "faults.kill.break: is empty"},
		{"endless", "timeout: 5s", "timeout: 1h", "faults.kill.timeout"},
		{"no URL", "http://203.0.113.3:8081", "203.0.113.3:8081", "staging.yaml:4: edges[1].data: found"},
		{"zone twice", "zone: az3", "zone: az1", "edges[1].zone"},
		{"no address", `"2001:db8::1"`, "edge", "edges[0].addresses[1]"},
		{"DNS without a name", ", name: gateway.example.test", "", "staging.yaml:5: dns"},
		{"DNS by name", `"203.0.113.53:53"`, "ns.test:53", "dns.servers[0]"},
		{"path", "path: /users/1", "path: users", "request.path"},
		{"a header in a tag", "tag: beta,", `tag: "b x",`, "request.permissive.tag"},
		{"no baseline", "  baseline: v1\n", "", "request.baseline"},
		{"no token file", "token_file: token", "token_file: tok", "tok"},
		{"no CA", "name: staging", "name: staging\nca_file: ca.pem", "ca.pem"},
		{"token over http", `admin: "https://edge1.test:9081", token`, `admin: "http://edge1.test:9081", token`, "https only"},
	} {
		if !strings.Contains(goodTarget, c.replace) {
			t.Fatalf("%s: %q is not in it", c.name, c.replace)
		}
		write(strings.Replace(goodTarget, c.replace, c.with, 1))
		if _, err := ReadTarget(file); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", c.name, err, c.says)
		}
	}
	if _, err := ReadTarget(filepath.Join(dir, "none.yaml")); err == nil || !strings.Contains(err.Error(), "none.yaml") {
		t.Errorf("no file: %v", err)
	}
}

// shell makes a fault whose commands are a shell's.
func shell(t *testing.T, break1, mend string, timeout time.Duration) fault.Fault {
	t.Helper()
	spec := fault.Spec{Kind: "kill", Parts: []string{"az1/edge", "az1/user-service v1"}}
	f, ok := commands{byKind: map[string]command{"kill": {Break: []string{"sh", "-c", break1}, Mend: []string{"sh", "-c", mend}, Timeout: timeout}}}.Command(spec)
	if !ok {
		t.Fatal("the target does not do it")
	}
	return f
}

// TestCommandsRunBesideTheirFile, and say so to who runs them by hand.
func TestCommandsRunBesideTheirFile(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "kill.sh"), []byte("#!/bin/sh\npwd; exit 1\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	f, _ := commands{dir: dir, byKind: map[string]command{"kill": {Break: []string{"./kill.sh"}}}}.Command(fault.Spec{Kind: "kill"})
	want := "cd " + dir + " && GRAYFED_FAULT_KIND=kill ./kill.sh: exit status 1: " + dir
	if err := f.Break(t.Context()); err == nil || err.Error() != want {
		t.Errorf("it says\n%v\nwant\n%s", err, want)
	}
}

func TestCommands(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	f := shell(t, `printf '%s|%s' "$GRAYFED_FAULT_KIND" "$GRAYFED_FAULT_PARTS" >`+out, "rm "+out, 0)
	if f.String() != "kill az1/edge, az1/user-service v1" {
		t.Errorf("it is called %q", f)
	}
	if err := f.Mend(t.Context()); err != nil {
		t.Errorf("mending what was not broken: %v", err)
	}
	if err := f.Break(t.Context()); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(out); err != nil || string(text) != "kill|az1/edge\naz1/user-service v1" {
		t.Errorf("its environment is %q, %v", text, err)
	}
	for range 2 {
		if err := f.Mend(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("it is not mended")
	}
	if _, ok := (commands{}).Command(fault.Spec{Kind: "kill"}); ok {
		t.Error("a target without commands does it")
	}
}

// TestCommandFails: the error has what to type, and what the program said; what
// failed to break is mended, and mending is tried again.
func TestCommandFails(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	f := shell(t, "echo no route >&2; exit 3", "test -e "+out, 0)
	err := f.Break(t.Context())
	const line = `GRAYFED_FAULT_KIND=kill GRAYFED_FAULT_PARTS="$(printf '%s\n' az1/edge 'az1/user-service v1')" sh -c 'echo no route >&2; exit 3': exit status 3: no route`
	if err == nil || err.Error() != line {
		t.Errorf("it says\n%v\nwant\n%s", err, line)
	}
	if err := f.Mend(t.Context()); err == nil {
		t.Error("mending succeeded")
	}
	if err := os.WriteFile(out, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := f.Mend(t.Context()); err != nil {
		t.Errorf("the second try: %v", err)
	}
	if err := f.Mend(t.Context()); err != nil || os.Remove(out) != nil || f.Mend(t.Context()) != nil {
		t.Errorf("mended already: %v", err)
	}
}

// TestQuoted: what people are to type is on one line, and a shell reads it as it
// was meant.
func TestQuoted(t *testing.T) {
	for _, word := range []string{"az1/edge", "", "it's", "az1/*\naz2/user-service v1\n\n%s\\n", `"$(id)"`, "-n\n-e"} {
		line := quoted(word)
		out, err := exec.Command("sh", "-c", "printf %s "+line).Output()
		if err != nil || string(out) != word || strings.Contains(line, "\n") {
			t.Errorf("a shell reads %s as %q, want %q, %v", line, out, word, err)
		}
	}
}

// TestCommandsNeedNoDisk: a disk that is full may be what they mend. Of much
// output the error has the end.
func TestCommandsNeedNoDisk(t *testing.T) {
	t.Setenv("TMPDIR", filepath.Join(t.TempDir(), "none"))
	f := shell(t, "head -c 1000000 /dev/zero | tr '\\0' x; echo; echo the end; exit 1", "true", time.Minute)
	err := f.Break(t.Context())
	if err == nil || !strings.HasSuffix(err.Error(), "xx\nthe end") || len(err.Error()) > 2*maxOutput {
		t.Errorf("%v", err)
	}
	if err := f.Mend(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestCommandIsBounded, its children too; one that leaves a child behind has
// ended all the same.
func TestCommandIsBounded(t *testing.T) {
	dir := t.TempDir()
	// The child of the shell would make the file when it lived.
	f := shell(t, "(sleep 0.4; touch "+dir+"/late) & wait", "true", 100*time.Millisecond)
	if err := f.Break(t.Context()); err == nil || !strings.Contains(err.Error(), "not done within 100ms") {
		t.Errorf("%v", err)
	}
	f = shell(t, "sleep 0.8; test ! -e "+dir+"/late", "true", time.Minute)
	if err := f.Break(t.Context()); err != nil {
		t.Errorf("the child went on: %v", err)
	}
	f = shell(t, "sleep 60 & echo $! >"+dir+"/pid", "pid=$(cat "+dir+"/pid) && grep -q sleep /proc/$pid/cmdline && kill $pid", 10*time.Second)
	if err := f.Break(t.Context()); err != nil {
		t.Error(err)
	}
	if err := f.Mend(t.Context()); err != nil {
		t.Errorf("the child that was left behind is gone, or was waited for: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := shell(t, "true", "true", 0).Break(ctx); err == nil {
		t.Error("it ran after its time")
	}
}

// TestBreaksAreCutShortLate: one that is killed half-way may go on elsewhere,
// after it was mended.
func TestBreaksAreCutShortLate(t *testing.T) {
	file := filepath.Join(t.TempDir(), "broken")
	ended := func() context.Context {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		t.Cleanup(cancel)
		return ctx
	}
	if err := shell(t, "sleep 0.3; touch "+file, "true", time.Minute).Break(ended()); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(file); err != nil {
		t.Errorf("it was killed: %v", err)
	}
	hangs := shell(t, "sleep 60", "true", time.Minute).(*commandFault)
	hangs.grace = 100 * time.Millisecond
	if err := hangs.Break(ended()); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("it ended with %v", err)
	}
}

// TestMendsAreNotCutShort: whatever else ends meanwhile, a program that mends
// has its own time.
func TestMendsAreNotCutShort(t *testing.T) {
	file := filepath.Join(t.TempDir(), "mended")
	f := shell(t, "true", "touch "+file, time.Minute)
	if err := f.Break(t.Context()); err != nil {
		t.Fatal(err)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := f.Mend(over); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(file); err != nil {
		t.Errorf("it was not mended: %v", err)
	}
}

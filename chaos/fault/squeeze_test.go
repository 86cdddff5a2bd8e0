package fault

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// membership is the cgroups of a process, as the kernel says them.
func membership(t *testing.T, pid int) string {
	t.Helper()
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// leftovers are the cgroups that this process has made and that are there.
func leftovers(t *testing.T, s *squeeze) []string {
	t.Helper()
	h, err := s.home(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	found, err := filepath.Glob(filepath.Join(h.parent, "grayfed-drill-"+strconv.Itoa(os.Getpid())+"-*"))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// TestSqueeze: real processes in real cgroups. The limit is what the kernel
// says it is; mended, the processes are where they were, those that ended are
// no trouble, and the cgroups are gone.
func TestSqueeze(t *testing.T) {
	for _, test := range []struct {
		spec   Spec
		words  string
		limits map[string]string // by file: v1's and v2's
	}{
		{
			Spec{Kind: "memory-squeeze", Parts: []string{"*/edge"}, Memory: 64 << 20}, "67108864 more bytes of memory for az1/edge, az2/edge",
			map[string]string{"memory.limit_in_bytes": "67108864", "memory.max": "67108864"},
		},
		{
			Spec{Kind: "cpu-squeeze", Parts: []string{"*/edge"}, CPU: 25}, "25% of a CPU for az1/edge, az2/edge",
			map[string]string{"cpu.cfs_quota_us": "2500", "cpu.max": "2500 10000"},
		},
	} {
		t.Run(test.spec.Kind, func(t *testing.T) {
			m := newMachine(t, "az1/edge", "az2/edge", "az1/etcd")
			s := &squeeze{controller: strings.TrimSuffix(test.spec.Kind, "-squeeze")}
			before := make(map[string]string)
			for _, part := range m.names {
				before[part] = membership(t, m.parts[part].command.Process.Pid)
			}
			f := create(t, test.spec, m)
			if f.String() != test.words {
				t.Errorf("it is called %q", f)
			}
			if found := leftovers(t, s); len(found) > 0 {
				t.Fatalf("before: %v", found)
			}
			broken(t, f)
			groups := leftovers(t, s)
			if len(groups) != 2 {
				t.Fatalf("cgroups %v, want two", groups)
			}
			for n, part := range []string{"az1/edge", "az2/edge"} {
				members, err := os.ReadFile(filepath.Join(groups[n], "cgroup.procs"))
				if err != nil || strings.TrimSpace(string(members)) != strconv.Itoa(m.parts[part].command.Process.Pid) {
					t.Errorf("%s has %q, %v", groups[n], members, err)
				}
				checked := 0
				for name, want := range test.limits {
					if found, err := os.ReadFile(filepath.Join(groups[n], name)); err == nil {
						checked++
						if strings.TrimSpace(string(found)) != want {
							t.Errorf("%s is %q, want %s", name, found, want)
						}
					}
				}
				if checked != 1 {
					t.Errorf("%d of the limits are there", checked)
				}
			}
			same(t, "serving", m.serving(), m.names)
			if now := membership(t, m.parts["az1/etcd"].command.Process.Pid); now != before["az1/etcd"] {
				t.Errorf("az1/etcd was moved to %s", now)
			}
			mended(t, f)
			if found := leftovers(t, s); len(found) > 0 {
				t.Errorf("left over: %v", found)
			}
			for _, part := range m.names {
				if now := membership(t, m.parts[part].command.Process.Pid); now != before[part] {
					t.Errorf("%s is in\n%s\nwas in\n%s", part, now, before[part])
				}
			}

			broken(t, f)
			if err := m.parts["az1/edge"].command.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			<-m.parts["az1/edge"].ended
			mended(t, f)
			if found := leftovers(t, s); len(found) > 0 {
				t.Errorf("left over after a death: %v", found)
			}
		})
	}
}

// TestSqueezeKills: a process that needs more memory than it may have is
// killed, and no other.
func TestSqueezeKills(t *testing.T) {
	m := newMachine(t, "az1/edge", "az2/edge")
	f := create(t, Spec{Kind: "memory-squeeze", Parts: []string{"az1/edge"}, Memory: 8 << 20}, m)
	broken(t, f)
	for _, part := range m.names {
		m.get(part, "/grow")
	}
	select {
	case <-m.parts["az1/edge"].ended:
	case <-time.After(patience):
		t.Error("it lives")
	}
	same(t, "serving", m.serving(), []string{"az2/edge"})
	mended(t, f)
	if found := leftovers(t, &squeeze{controller: "memory"}); len(found) > 0 {
		t.Errorf("left over: %v", found)
	}
}

// TestSqueezeSweeps: what a drill that was killed has left is removed, what one
// that lives has made is not.
func TestSqueezeSweeps(t *testing.T) {
	m := newMachine(t, "az1/edge", "az2/edge")
	h, err := (&squeeze{controller: "cpu"}).home(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	living, dead := m.parts["az1/edge"].command.Process, m.parts["az2/edge"].command.Process
	if err := dead.Kill(); err != nil {
		t.Fatal(err)
	}
	<-m.parts["az2/edge"].ended
	group := func(p *os.Process) string {
		return filepath.Join(h.parent, fmt.Sprintf("%s%d-cpu-0", groupPrefix, p.Pid))
	}
	for _, p := range []*os.Process{living, dead} {
		if err := os.Mkdir(group(p), 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.Remove(group(p)) })
	}
	f := create(t, Spec{Kind: "cpu-squeeze", Parts: []string{"az1/edge"}, CPU: 50}, m)
	broken(t, f)
	if _, err := os.Stat(group(dead)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the dead one's: %v", err)
	}
	if _, err := os.Stat(group(living)); err != nil {
		t.Errorf("the living one's: %v", err)
	}
	mended(t, f)
}

// TestSqueezeInPart: the one that could not be squeezed is named, the other
// is moved back.
func TestSqueezeInPart(t *testing.T) {
	m := newMachine(t, "az1/edge", "az2/edge")
	m.fail["pid az2/edge"] = errors.New("it has ended")
	before := membership(t, m.parts["az1/edge"].command.Process.Pid)
	f := create(t, Spec{Kind: "cpu-squeeze", Parts: []string{"*/edge"}, CPU: 50}, m)
	if err := f.Break(limited(t)); !errors.Is(err, m.fail["pid az2/edge"]) {
		t.Errorf("break: %v", err)
	}
	mended(t, f)
	if now := membership(t, m.parts["az1/edge"].command.Process.Pid); now != before {
		t.Errorf("az1/edge is in\n%s", now)
	}
	if found := leftovers(t, &squeeze{controller: "cpu"}); len(found) > 0 {
		t.Errorf("left over: %v", found)
	}
}

// TestSqueezeHomes: where a cgroup is made, by what the kernel says of this
// machine's hierarchies, and on which machines there is none.
func TestSqueezeHomes(t *testing.T) {
	root := t.TempDir()
	for _, folder := range []string{"system.slice/lab.service", "v1/lab"} {
		if err := os.MkdirAll(filepath.Join(root, folder), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for path, controllers := range map[string]string{".": "cpu io memory pids", "system.slice": "cpu memory pids", "system.slice/lab.service": "memory pids"} {
		if err := os.WriteFile(filepath.Join(root, path, "cgroup.controllers"), []byte(controllers+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	v2 := "30 23 0:26 / " + root + " rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
	v1 := "31 23 0:27 / " + root + "/v1 rw - cgroup cgroup rw,cpu,cpuacct\n"
	for _, test := range []struct {
		name, mounts, memberships string
		own, parent               string
	}{
		{"v2: beside its own", v2, "0::/system.slice/lab.service\n", "system.slice/lab.service", "system.slice"},
		{"v2: below the root", v2, "0::/\n", ".", "."},
		{"v1: below its own", v1, "3:cpu,cpuacct:/lab\n0::/\n", "v1/lab", "v1/lab"},
		{"both: where the controller is", v2 + v1, "3:cpu,cpuacct:/lab\n0::/system.slice/lab.service\n", "v1/lab", "v1/lab"},
		{"a container's part of v1", strings.Replace(v1, " / ", " /docker/abc ", 1), "3:cpu,cpuacct:/docker/abc/lab\n", "v1/lab", "v1/lab"},
		{"outside of what is mounted", strings.Replace(v1, " / ", " /docker/abc ", 1), "3:cpu,cpuacct:/docker/abcd\n", "", ""},
		{"another controller's", strings.Replace(v1, "cpu,cpuacct", "cpuset", 1), "3:cpuset:/lab\n", "", ""},
		{"v2 without it", v2, "0::/v1/lab\n", "", ""},
		{"no hierarchy", "", "0::/\n", "", ""},
		{"nothing but noise", "a - b\n - \n", "::\n:\n\n", "", ""},
	} {
		proc := t.TempDir()
		for path, text := range map[string]string{"self/mountinfo": test.mounts, "7/cgroup": test.memberships} {
			if err := os.MkdirAll(filepath.Dir(filepath.Join(proc, path)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(proc, path), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		h, err := (&squeeze{controller: "cpu", proc: proc}).home(7)
		if test.own == "" {
			if !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "controller cpu") {
				t.Errorf("%s: %+v, %v", test.name, h, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
		} else if h.own != filepath.Join(root, test.own) || h.parent != filepath.Join(root, test.parent) {
			t.Errorf("%s: %+v", test.name, h)
		}
		if _, err := (&squeeze{controller: "cpu", proc: proc}).home(8); err == nil || errors.Is(err, ErrUnsupported) {
			t.Errorf("%s: a process that has ended: %v", test.name, err)
		}
	}
	if _, err := (&squeeze{controller: "cpu", proc: filepath.Join(root, "no-proc")}).home(7); !errors.Is(err, ErrUnsupported) {
		t.Errorf("without /proc: %v", err)
	}
}

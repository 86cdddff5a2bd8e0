package fault

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestSqueezeUnified: real cgroups of v2, of whatever controllers v1 leaves to
// it. They are enabled for the time of the squeeze, or were before.
func TestSqueezeUnified(t *testing.T) {
	for _, s := range []*squeeze{
		{controller: "cpu", v2: []setting{{"cpu.max", "2500 10000"}}},
		{controller: "memory", v2: []setting{{"memory.max", "67108864"}, {"memory.swap.max?", "0"}}},
		{controller: "pids", v2: []setting{{"pids.max", "64"}}},
		{controller: "hugetlb", v2: []setting{{"hugetlb.2MB.max", "0"}}},
	} {
		h, err := s.home(os.Getpid())
		if err != nil || !h.unified {
			continue // v1 has it, or this kernel has not
		}
		t.Run(s.controller, func(t *testing.T) {
			m := newMachine(t, "az1/edge")
			pid := m.parts["az1/edge"].command.Process.Pid
			squeezed(t, s, pid)

			// Elsewhere than in the root, it is squeezed beside its own cgroup.
			var u undo
			if err := s.enable(&u, h.parent); err != nil {
				t.Fatal(err)
			}
			above := filepath.Join(h.parent, fmt.Sprintf("grayfed-test-%d-%s", os.Getpid(), s.controller))
			own := filepath.Join(above, "lab")
			if err := os.MkdirAll(own, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := writeFile(filepath.Join(own, "cgroup.procs"), strconv.Itoa(pid)); err != nil {
				t.Error(err)
			}
			if found, err := s.home(pid); err != nil || found.own != own || found.parent != above {
				t.Errorf("its home is %+v, %v", found, err)
			}
			squeezed(t, s, pid)
			if err := errors.Join(moveAll(own, h.own), removeGroup(limited(t), own), removeGroup(limited(t), above), u.mend(limited(t))); err != nil {
				t.Error(err)
			}
		})
	}
}

// squeezed squeezes a process and mends it.
func squeezed(t *testing.T, s *squeeze, pid int) {
	t.Helper()
	h, err := s.home(pid)
	if err != nil {
		t.Fatal(err)
	}
	enabled := func() bool {
		text, err := os.ReadFile(filepath.Join(h.parent, "cgroup.subtree_control"))
		if err != nil {
			t.Fatal(err)
		}
		return hasWord(string(text), " ", s.controller)
	}
	before, was := membership(t, pid), enabled()
	group := filepath.Join(h.parent, fmt.Sprintf("%s%d-%s-0", groupPrefix, os.Getpid(), s.controller))
	var u undo
	if err := s.apply(&u, pid, filepath.Base(group)); err != nil {
		t.Errorf("squeeze: %v", err)
	}
	for file, want := range map[string]string{s.v2[0].file: s.v2[0].value, "cgroup.procs": strconv.Itoa(pid)} {
		if found, err := os.ReadFile(filepath.Join(group, file)); err != nil || strings.TrimSpace(string(found)) != want {
			t.Errorf("%s is %q, %v; want %s", file, found, err, want)
		}
	}
	if !enabled() {
		t.Errorf("controller %s is not enabled", s.controller)
	}
	if err := s.apply(&u, pid, filepath.Base(group)+"-again"); !errors.Is(err, ErrUnsupported) {
		t.Errorf("squeezed twice: %v", err)
	}
	if err := u.mend(limited(t)); err != nil {
		t.Errorf("mend: %v", err)
	}
	if now := membership(t, pid); now != before {
		t.Errorf("it is in\n%s\nwas in\n%s", now, before)
	}
	if _, err := os.Stat(group); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("left over: %s, %v", group, err)
	}
	if enabled() != was {
		t.Errorf("controller %s: enabled %t, was %t", s.controller, !was, was)
	}
}

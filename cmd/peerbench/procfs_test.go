package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"
)

func statLine(pid, parent int, name string, utime, stime, cutime, cstime int) string {
	return fmt.Sprintf("%d (%s) S %d 1 1 0 -1 4194560 500 600 0 0 %d %d %d %d 20 0 4 0 12345 1000000 200\n",
		pid, name, parent, utime, stime, cutime, cstime)
}

func TestParseStat(t *testing.T) {
	for _, name := range []string{"nginx", "a b", ") S 7 (", "((()"} {
		got, err := parseStat(statLine(42, 7, name, 100, 20, 3, 1))
		if err != nil {
			t.Fatalf("process named %q: %v", name, err)
		}
		if want := (procStat{PID: 42, Parent: 7, CPU: 1240 * time.Millisecond}); got != want {
			t.Errorf("process named %q: %+v, want %+v", name, got, want)
		}
	}
	for _, text := range []string{"", "42", "42 (nginx) S 7 1", "x (nginx) S 7 1 1 0 -1 0 0 0 0 0 1 1 1 1", ") (", "42 (a) S 7 1 1 0 -1 0 0 0 0 0 1 x 1 1"} {
		if got, err := parseStat(text); err == nil {
			t.Errorf("%q was read as %+v", text, got)
		}
	}
}

func statusText(rss, anon, peak int) string {
	return fmt.Sprintf("Name:\tx\nVmHWM:\t%8d kB\nVmRSS:\t%8d kB\nRssAnon:\t%8d kB\nRssFile:\t 9999 kB\n", peak, rss, anon)
}

func TestParseStatus(t *testing.T) {
	got, err := parseStatus([]byte(statusText(300, 200, 400)))
	want := memory{Resident: 300 << 10, Anonymous: 200 << 10, Peak: 400 << 10, PeakLargest: 400 << 10, Processes: 1}
	if err != nil || got != want {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
	if got, err := parseStatus([]byte("Name:\tx\nState:\tZ (zombie)\n")); err != nil || got.Resident != 0 {
		t.Errorf("a zombie is %+v, %v", got, err)
	}
	for _, text := range []string{"VmRSS:\t 1 kB\n", "VmHWM:\t1 MB\nVmRSS:\t1 kB\nRssAnon:\t1 kB\n", "VmHWM:\t? kB\nVmRSS:\t1 kB\nRssAnon:\t1 kB\n"} {
		if _, err := parseStatus([]byte(text)); !errors.Is(err, errProcFormat) && !errors.Is(err, strconv.ErrSyntax) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestTreeUsage(t *testing.T) {
	proc := t.TempDir()
	add := func(pid, parent, ticks, rss int) {
		dir := filepath.Join(proc, strconv.Itoa(pid))
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(
			os.WriteFile(filepath.Join(dir, "stat"), []byte(statLine(pid, parent, "p", ticks, 0, 0, 0)), 0o600),
			os.WriteFile(filepath.Join(dir, "status"), []byte(statusText(rss, rss, rss)), 0o600),
		); err != nil {
			t.Fatal(err)
		}
	}
	add(1, 0, 1000, 1000)
	add(10, 1, 1, 10) // the tree: 10, its children 11 and 12, and 13 below 12
	add(11, 10, 2, 20)
	add(12, 10, 4, 40)
	add(13, 12, 8, 30)
	add(14, 1, 5000, 5000) // a sibling of the tree
	if err := os.Mkdir(filepath.Join(proc, "15"), 0o755); err != nil {
		t.Fatal(err) // a process that ended after the listing
	}
	got, err := treeUsage(proc, 10)
	if err != nil {
		t.Fatal(err)
	}
	want := usage{CPU: 150 * time.Millisecond, Memory: memory{
		Resident: 100 << 10, Anonymous: 100 << 10, Peak: 100 << 10, PeakLargest: 40 << 10, Processes: 4}}
	if got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if _, err := treeUsage(proc, 99); err == nil {
		t.Error("a process that does not exist has a usage")
	}
}

func TestReadOwnProcess(t *testing.T) {
	got, err := treeUsage("/proc", os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if got.Memory.Resident <= 0 || got.Memory.Anonymous > got.Memory.Resident || got.Memory.Peak < got.Memory.Resident/2 {
		t.Errorf("implausible memory of this process: %+v", got.Memory)
	}
	all, err := readStats("/proc")
	if err != nil {
		t.Fatal(err)
	}
	if tree := descendants(all, os.Getppid()); !slices.Contains(tree, os.Getpid()) {
		t.Errorf("process %d is not below its parent: %v", os.Getpid(), tree)
	}
	machine, err := readMachineTimes()
	if err != nil || machine.Total <= 0 || machine.Busy+machine.Steal > machine.Total {
		t.Errorf("implausible machine times: %+v, %v", machine, err)
	}
}

func TestParseMachineTimes(t *testing.T) {
	got, err := parseMachineTimes("cpu  100 1 50 800 20 4 5 20 90 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n")
	want := machineTimes{Busy: 1600 * time.Millisecond, Steal: 200 * time.Millisecond, Total: 10 * time.Second}
	if err != nil || got != want {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
	for _, text := range []string{"", "intr 1 2 3 4 5 6 7 8", "cpu 1 2 3", "cpu 1 2 3 4 5 6 7 x"} {
		if _, err := parseMachineTimes(text); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
}

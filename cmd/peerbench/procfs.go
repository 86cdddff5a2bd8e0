package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// clockTick is one unit of the CPU times in /proc/PID/stat: USER_HZ, which is
// 100 on every architecture Linux runs Go on.
const clockTick = 10 * time.Millisecond

var errProcFormat = errors.New("unexpected format")

// procStat is what the benchmark reads of /proc/PID/stat (proc_pid_stat(5)).
type procStat struct {
	PID    int
	Parent int
	// CPU is user and system time of the process, all its threads (living and
	// ended), and those of its children that have ended and were waited for.
	CPU time.Duration
}

func parseStat(text string) (procStat, error) {
	// The command name is in parentheses and may hold spaces and parentheses:
	// the last closing one ends it.
	open, end := strings.IndexByte(text, '('), strings.LastIndexByte(text, ')')
	if open < 1 || end < open {
		return procStat{}, fmt.Errorf("parse stat %q: %w", text, errProcFormat)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(text[:open]))
	if err != nil {
		return procStat{}, fmt.Errorf("parse stat, pid: %w", err)
	}
	// fields[0] is field 3 of the manual page, the state.
	fields := strings.Fields(text[end+1:])
	if len(fields) < 15 {
		return procStat{}, fmt.Errorf("parse stat of %d: %d fields: %w", pid, len(fields), errProcFormat)
	}
	parent, err := strconv.Atoi(fields[1])
	if err != nil {
		return procStat{}, fmt.Errorf("parse stat of %d, parent: %w", pid, err)
	}
	var ticks int64
	for _, field := range fields[11:15] { // utime stime cutime cstime
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return procStat{}, fmt.Errorf("parse stat of %d, times: %w", pid, err)
		}
		ticks += n
	}
	return procStat{PID: pid, Parent: parent, CPU: time.Duration(ticks) * clockTick}, nil
}

// memory is what /proc/PID/status says of a process's memory, in bytes, summed
// when it is that of several.
type memory struct {
	Resident  int64 `json:"rss"`      // VmRSS
	Anonymous int64 `json:"rss_anon"` // RssAnon
	Peak      int64 `json:"peak"`     // VmHWM: the highest VmRSS so far
	// PeakLargest is the Peak of the one process with the highest; pages that
	// forked processes share count once in it, and once each in Peak.
	PeakLargest int64 `json:"peak_largest"`
	Processes   int   `json:"processes"`
}

func (m memory) plus(other memory) memory {
	return memory{
		Resident:    m.Resident + other.Resident,
		Anonymous:   m.Anonymous + other.Anonymous,
		Peak:        m.Peak + other.Peak,
		PeakLargest: max(m.PeakLargest, other.PeakLargest),
		Processes:   m.Processes + other.Processes,
	}
}

func parseStatus(text []byte) (memory, error) {
	m := memory{Processes: 1}
	wanted := map[string]*int64{"VmRSS": &m.Resident, "RssAnon": &m.Anonymous, "VmHWM": &m.Peak}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ":")
		into, ok := wanted[name]
		if !ok {
			continue
		}
		kib, ok := strings.CutSuffix(strings.TrimSpace(value), " kB")
		if !ok {
			return memory{}, fmt.Errorf("parse status, %s %q: %w", name, value, errProcFormat)
		}
		n, err := strconv.ParseInt(strings.TrimSpace(kib), 10, 64)
		if err != nil {
			return memory{}, fmt.Errorf("parse status, %s: %w", name, err)
		}
		*into = n << 10
		delete(wanted, name)
	}
	if err := lines.Err(); err != nil {
		return memory{}, fmt.Errorf("parse status: %w", err)
	}
	// A zombie has no memory lines at all; only some of them is a surprise.
	if len(wanted) != 0 && len(wanted) != 3 {
		return memory{}, fmt.Errorf("parse status: %d of 3 memory fields missing: %w", len(wanted), errProcFormat)
	}
	m.PeakLargest = m.Peak
	return m, nil
}

// usage is what a process and its descendants have used.
type usage struct {
	CPU    time.Duration
	Memory memory
}

// treeUsage reads the usage of root and all its living descendants. CPU time
// of a descendant that ended is in its parent's, so the sum never falls.
func treeUsage(proc string, root int) (usage, error) {
	all, err := readStats(proc)
	if err != nil {
		return usage{}, err
	}
	if _, ok := all[root]; !ok {
		return usage{}, fmt.Errorf("process %d is gone", root)
	}
	var total usage
	for _, pid := range descendants(all, root) {
		total.CPU += all[pid].CPU
		text, err := os.ReadFile(filepath.Join(proc, strconv.Itoa(pid), "status"))
		if gone(err) {
			continue
		}
		if err != nil {
			return usage{}, fmt.Errorf("read the memory of process %d: %w", pid, err)
		}
		m, err := parseStatus(text)
		if err != nil {
			return usage{}, fmt.Errorf("process %d: %w", pid, err)
		}
		total.Memory = total.Memory.plus(m)
	}
	return total, nil
}

func readStats(proc string) (map[int]procStat, error) {
	entries, err := os.ReadDir(proc)
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	all := make(map[int]procStat, len(entries))
	for _, entry := range entries {
		if _, err := strconv.Atoi(entry.Name()); err != nil {
			continue
		}
		text, err := os.ReadFile(filepath.Join(proc, entry.Name(), "stat"))
		if gone(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read process %s: %w", entry.Name(), err)
		}
		stat, err := parseStat(string(text))
		if err != nil {
			return nil, err
		}
		all[stat.PID] = stat
	}
	return all, nil
}

// descendants returns root and every process below it.
func descendants(all map[int]procStat, root int) []int {
	children := make(map[int][]int, len(all))
	for pid, stat := range all {
		children[stat.Parent] = append(children[stat.Parent], pid)
	}
	tree := []int{root}
	for i := 0; i < len(tree); i++ {
		tree = append(tree, children[tree[i]]...)
	}
	return tree
}

// machineTimes are the first "cpu" line of /proc/stat: what all processors did
// since the machine started.
type machineTimes struct {
	Busy  time.Duration // everything but idle, waiting for I/O and stolen time
	Steal time.Duration // time the hypervisor gave to others
	Total time.Duration // all of it
}

func parseMachineTimes(text string) (machineTimes, error) {
	line, _, _ := strings.Cut(text, "\n")
	fields := strings.Fields(line)
	// cpu user nice system idle iowait irq softirq steal guest guest_nice;
	// guest times are inside user and nice already.
	if len(fields) < 9 || fields[0] != "cpu" {
		return machineTimes{}, fmt.Errorf("parse machine times %q: %w", line, errProcFormat)
	}
	var t machineTimes
	for i, field := range fields[1:9] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return machineTimes{}, fmt.Errorf("parse machine times: %w", err)
		}
		d := time.Duration(n) * clockTick
		t.Total += d
		switch i {
		case 3, 4:
		case 7:
			t.Steal += d
		default:
			t.Busy += d
		}
	}
	return t, nil
}

func readMachineTimes() (machineTimes, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return machineTimes{}, fmt.Errorf("read machine times: %w", err)
	}
	return parseMachineTimes(string(text))
}

// gone says that a process ended between being listed and being read.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH)
}

package fault

import (
	"bytes"
	"context"
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

// emptyTimeout bounds the wait for a cgroup that processes have just left.
const emptyTimeout = 5 * time.Second

// groupPrefix begins the names of cgroups; the process id of the drill follows.
const groupPrefix = "grayfed-drill-"

// setting is a file of a cgroup and what is written to it. With a "?" at its
// end it is written where the kernel has it.
type setting struct{ file, value string }

// squeeze is a limit by a cgroup of its own for each process.
type squeeze struct {
	controller string
	v1, v2     []setting
	proc       string // "" is /proc
}

// squeezing moves the processes that spec names into cgroups of their own,
// limited, and back when it is mended.
func squeezing(what string, spec *Spec, target any, s *squeeze) (Fault, error) {
	_, matched, err := parts(spec.Parts, target)
	if err != nil {
		return nil, err
	}
	pids, err := need[Pids](target, "processes on this machine")
	if err != nil {
		return nil, err
	}
	// Whether there are cgroups is known before anything is broken.
	if _, err := s.home(os.Getpid()); err != nil {
		return nil, err
	}
	return &plan{what: what + list(matched), do: func(_ context.Context, u *undo) error {
		for n, part := range matched {
			pid, err := pids.Pid(part)
			if err != nil {
				return err
			}
			if err := s.apply(u, pid, fmt.Sprintf("%s%d-%s-%d", groupPrefix, os.Getpid(), s.controller, n)); err != nil {
				return fmt.Errorf("squeeze %s: %w", part, err)
			}
		}
		return nil
	}}, nil
}

// home is where a process's cgroup is, and where one for it may be made.
type home struct {
	unified bool   // cgroup v2
	own     string // folder of the cgroup that the process is in
	parent  string // folder to make the new one in
}

// home finds them, or says that there are none to be had.
func (s *squeeze) home(pid int) (*home, error) {
	proc := s.proc
	if proc == "" {
		proc = "/proc"
	}
	mounts, err := os.ReadFile(filepath.Join(proc, "self", "mountinfo"))
	if err != nil {
		return nil, fmt.Errorf("%w: no cgroups: %w", ErrUnsupported, err)
	}
	memberships, err := os.ReadFile(filepath.Join(proc, strconv.Itoa(pid), "cgroup"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("process %d has ended", pid)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: no cgroups: %w", ErrUnsupported, err)
	}
	h, err := s.find(string(mounts), string(memberships))
	if err != nil {
		return nil, err
	}
	if err := syscall.Access(h.parent, 2 /* W_OK */); err != nil {
		return nil, fmt.Errorf("%w: cgroup %s cannot be written: %w", ErrUnsupported, h.parent, err)
	}
	return h, nil
}

// find prefers v1, where a controller is that is not in v2. Lines of
// cgroup(7), "id:controllers:path", and of mountinfo, proc_pid_mountinfo(5).
func (s *squeeze) find(mounts, memberships string) (*home, error) {
	for line := range strings.Lines(memberships) {
		fields := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(fields) < 3 {
			continue
		}
		unified := fields[0] == "0" && fields[1] == ""
		if !unified && !hasWord(fields[1], ",", s.controller) {
			continue
		}
		root, point := s.mount(mounts, unified)
		if point == "" {
			continue
		}
		below, err := filepath.Rel(root, fields[2])
		if err != nil || below == ".." || strings.HasPrefix(below, "../") {
			continue // its cgroup is not to be seen from here
		}
		h := &home{unified: unified, own: filepath.Join(point, below)}
		h.parent = h.own
		if unified {
			// A cgroup with processes cannot have limited ones below it
			// ("no internal processes"), except the root.
			if h.own != point {
				h.parent = filepath.Dir(h.own)
			}
			available, err := os.ReadFile(filepath.Join(h.parent, "cgroup.controllers"))
			if err != nil || !hasWord(string(available), " ", s.controller) {
				continue
			}
		}
		return h, nil
	}
	return nil, fmt.Errorf("%w: no cgroup controller %s here", ErrUnsupported, s.controller)
}

// mount returns what of the hierarchy is mounted, and where.
func (s *squeeze) mount(mounts string, unified bool) (root, point string) {
	for line := range strings.Lines(mounts) {
		before, after, ok := strings.Cut(strings.TrimSpace(line), " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if !ok || len(left) < 6 || len(right) < 3 {
			continue
		}
		if unified && right[0] == "cgroup2" || !unified && right[0] == "cgroup" && hasWord(right[2], ",", s.controller) {
			return left[3], left[4]
		}
	}
	return "", ""
}

func hasWord(text, separator, word string) bool {
	for found := range strings.SplitSeq(strings.TrimSpace(text), separator) {
		if found == word {
			return true
		}
	}
	return false
}

// apply makes the cgroup, sets its limits and moves the process into it.
func (s *squeeze) apply(u *undo, pid int, name string) error {
	h, err := s.home(pid)
	if err != nil {
		return err
	}
	settings := s.v1
	if h.unified {
		// A process is in one cgroup of v2: a second squeeze would end the first.
		if strings.HasPrefix(filepath.Base(h.own), groupPrefix) {
			return fmt.Errorf("%w: process %d is squeezed already, which cgroup v2 can do once", ErrUnsupported, pid)
		}
		settings = s.v2
		if err := s.enable(u, h.parent); err != nil {
			return err
		}
	}
	sweep(h.parent)
	group := filepath.Join(h.parent, name)
	if err := os.Mkdir(group, 0o755); err != nil {
		return fmt.Errorf("make a cgroup: %w", err)
	}
	u.push("remove cgroup "+group, func(ctx context.Context) error { return removeGroup(ctx, group) })
	for _, set := range settings {
		file, optional := strings.CutSuffix(set.file, "?")
		err := writeFile(filepath.Join(group, file), set.value)
		if err != nil && (!optional || !errors.Is(err, fs.ErrNotExist)) {
			return fmt.Errorf("limit: %w", err)
		}
	}
	u.push(fmt.Sprintf("move process %d back to %s", pid, h.own), func(context.Context) error { return moveAll(group, h.own) })
	if err := writeFile(filepath.Join(group, "cgroup.procs"), strconv.Itoa(pid)); err != nil {
		return fmt.Errorf("move process %d: %w", pid, err)
	}
	return nil
}

// sweep removes the cgroups of drills that were killed before they could mend.
// One that has processes in it stays: the kernel sees to that.
func sweep(parent string) {
	entries, err := os.ReadDir(parent)
	if err != nil {
		return // what is wrong shows when a cgroup is made here
	}
	for _, entry := range entries {
		rest, ours := strings.CutPrefix(entry.Name(), groupPrefix)
		owner, _, _ := strings.Cut(rest, "-")
		pid, err := strconv.Atoi(owner)
		if ours && err == nil && pid > 0 && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			_ = os.Remove(filepath.Join(parent, entry.Name()))
		}
	}
}

// enable lets the children of a v2 cgroup have the controller.
func (s *squeeze) enable(u *undo, parent string) error {
	control := filepath.Join(parent, "cgroup.subtree_control")
	enabled, err := os.ReadFile(control)
	if err != nil {
		return err
	}
	if hasWord(string(enabled), " ", s.controller) {
		return nil
	}
	if err := writeFile(control, "+"+s.controller); err != nil {
		return fmt.Errorf("%w: enable controller %s: %w", ErrUnsupported, s.controller, err)
	}
	u.push("disable controller "+s.controller, func(context.Context) error { return writeFile(control, "-"+s.controller) })
	return nil
}

// moveAll empties a cgroup: of the process and of what it has forked since.
func moveAll(from, to string) error {
	for range 100 {
		members, err := os.ReadFile(filepath.Join(from, "cgroup.procs"))
		if errors.Is(err, fs.ErrNotExist) || err == nil && len(bytes.TrimSpace(members)) == 0 {
			return nil
		}
		if err != nil {
			return err
		}
		for _, pid := range strings.Fields(string(members)) {
			if err := writeFile(filepath.Join(to, "cgroup.procs"), pid); err != nil && !errors.Is(err, syscall.ESRCH) {
				return err
			}
		}
	}
	return errors.New("it does not become empty")
}

// removeGroup waits for processes that are ending.
func removeGroup(ctx context.Context, group string) error {
	ctx, cancel := context.WithTimeout(ctx, emptyTimeout)
	defer cancel()
	for {
		err := os.Remove(group)
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if !errors.Is(err, syscall.EBUSY) || pause(ctx, poll) != nil {
			return err
		}
	}
}

// writeFile writes to a file that the kernel has made: it makes none.
func writeFile(path, text string) error {
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = file.WriteString(text)
	return errors.Join(err, file.Close())
}

package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// slots is how many labs can run at once: their names and addresses differ
	// by the slot.
	slots = 16
	// slotFolder has a lock file per slot that was ever used. The kernel takes
	// a lock from its owner when that dies, however it dies.
	slotFolder = "/run/grayfed-lab"
)

// slot is the right to names and addresses of its number.
type slot struct {
	number int
	lock   *os.File
}

// takeSlot takes the first slot that no living lab has. What dead ones left
// behind is removed, in all slots; removed names it. The folder is removed like
// that if this lab dies; "" is none.
func takeSlot(ctx context.Context, folder string) (taken *slot, removed []string, err error) {
	if err := os.MkdirAll(slotFolder, 0o755); err != nil {
		return nil, nil, fmt.Errorf("take a slot for the lab: %w", err)
	}
	var owners []string
	for n := range slots {
		s, owner, err := lockSlot(n)
		if err != nil {
			return nil, nil, errors.Join(err, taken.release())
		}
		if s == nil {
			owners = append(owners, owner)
			continue
		}
		left, err := s.sweep(ctx)
		removed = append(removed, left...)
		if err != nil {
			return nil, nil, errors.Join(err, s.release(), taken.release())
		}
		if taken != nil {
			if err := s.release(); err != nil {
				return nil, nil, errors.Join(err, taken.release())
			}
			continue
		}
		taken = s
	}
	if taken == nil {
		return nil, nil, fmt.Errorf("all %d slots are taken by living labs: processes %s", slots, strings.Join(owners, ", "))
	}
	if err := taken.sign(folder); err != nil {
		return nil, nil, errors.Join(err, taken.release())
	}
	return taken, removed, nil
}

// lockSlot returns nil and the owner where the slot is taken.
func lockSlot(n int) (*slot, string, error) {
	path := filepath.Join(slotFolder, strconv.Itoa(n))
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, "", fmt.Errorf("open the lock of slot %d: %w", n, err)
	}
	err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	switch {
	case err == nil:
		return &slot{number: n, lock: file}, "", nil
	case errors.Is(err, unix.EWOULDBLOCK):
		owner, _, err := signature(file)
		return nil, owner, errors.Join(err, file.Close())
	}
	return nil, "", errors.Join(fmt.Errorf("lock slot %d: %w", n, err), file.Close())
}

// sign writes who owns the slot, for the people who find it taken, and the
// folder that is to go with it.
func (s *slot) sign(folder string) error {
	if err := s.lock.Truncate(0); err != nil {
		return fmt.Errorf("sign slot %d: %w", s.number, err)
	}
	if _, err := s.lock.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"+folder+"\n"), 0); err != nil {
		return fmt.Errorf("sign slot %d: %w", s.number, err)
	}
	return nil
}

// signature reads what sign wrote.
func signature(lock *os.File) (owner, folder string, err error) {
	text, err := io.ReadAll(io.NewSectionReader(lock, 0, 1<<16))
	if err != nil {
		return "", "", fmt.Errorf("read who owns a slot: %w", err)
	}
	owner, folder, _ = strings.Cut(string(text), "\n")
	return owner, strings.TrimSuffix(folder, "\n"), nil
}

// release gives the slot up. The file stays: removing it would let two labs
// lock two files of one name.
func (s *slot) release() error {
	if s == nil {
		return nil
	}
	return errors.Join(s.lock.Truncate(0), s.lock.Close())
}

func (s *slot) namespace(node string) string { return s.prefix() + node }
func (s *slot) prefix() string               { return fmt.Sprintf("grayfed%d-", s.number) }

// link is the caller's end of the connection to the router.
func (s *slot) link() string { return fmt.Sprintf("grayfed%d", s.number) }

// sweep removes the namespaces, the link and the folder of this slot, and names
// them. With a namespace goes what is in it: links, the relay's device, routing
// rules and those of the packet filter.
func (s *slot) sweep(ctx context.Context) (removed []string, err error) {
	entries, err := os.ReadDir(namespaceFolder)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("look for namespaces of slot %d: %w", s.number, err)
	}
	// The link would go with the router, but only when the kernel gets around to
	// it, and a new lab needs its name at once.
	var commands []string
	if _, err := os.Stat("/sys/class/net/" + s.link()); err == nil {
		commands = append(commands, "link delete "+s.link())
		removed = append(removed, "link "+s.link())
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), s.prefix()) {
			commands = append(commands, "netns delete "+e.Name())
			removed = append(removed, "namespace "+e.Name())
		}
	}
	if len(commands) > 0 {
		if err := ip(ctx, "", commands...); err != nil {
			return nil, fmt.Errorf("remove what is left of slot %d: %w", s.number, err)
		}
	}
	_, folder, err := signature(s.lock)
	if err != nil || !strings.HasPrefix(filepath.Base(folder), folderPrefix) {
		return removed, err
	}
	if _, err := os.Stat(folder); errors.Is(err, os.ErrNotExist) {
		return removed, nil
	}
	if err := os.RemoveAll(folder); err != nil {
		return nil, fmt.Errorf("remove what is left of slot %d: %w", s.number, err)
	}
	return append(removed, "folder "+folder), nil
}

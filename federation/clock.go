package federation

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
)

// clockBlock is how many ticks are reserved on disk at a time. A crash skips
// what is left of a block, which costs nothing: stamps need to grow, not to be
// dense.
const clockBlock = 4096

// ErrClockJump is wrapped by the error of [Clock.WitnessBounded].
var ErrClockJump = errors.New("implausible clock jump")

// Clock is an edge's Lamport clock. Its high-water mark is on disk before a
// stamp above it is given out, so an edge that restarts without etcd never
// mints a stamp twice. It is safe for concurrent use.
type Clock struct {
	origin string
	path   string // "" keeps the mark in memory only

	mu       sync.Mutex
	now      uint64 // mu
	reserved uint64 // mu; stamps up to here may be minted without a write
}

// OpenClock returns the clock of the edge called origin, going on above the
// high-water mark in the file at path, which is made where there is none. An
// empty path keeps the mark in memory. A file that holds anything but a number
// is an error: going on from zero could mint a stamp twice.
func OpenClock(origin, path string) (*Clock, error) {
	c := &Clock{origin: origin, path: path}
	if path == "" {
		return c, nil
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read clock's high-water mark: %w", err)
	}
	mark, err := strconv.ParseUint(strings.TrimSpace(string(data)), 10, 64)
	if err != nil {
		return nil, fmt.Errorf("clock's high-water mark in %s: %w", path, err)
	}
	c.now, c.reserved = mark, mark
	return c, nil
}

// Tick mints the next stamp. It fails when the mark cannot be written, and
// then no stamp is given out.
func (c *Clock) Tick() (Stamp, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.now+1 > c.reserved {
		if err := c.reserve(c.now + clockBlock); err != nil {
			return Stamp{}, err
		}
	}
	c.now++
	return Stamp{Lamport: c.now, Origin: c.origin}, nil
}

// Witness moves the clock up to a time that etcd holds. What etcd holds is
// true by definition, so there is no bound.
func (c *Clock) Witness(lamport uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = max(c.now, lamport)
}

// WitnessBounded moves the clock up to a time that came by gossip or in a
// replay, unless it lies more than maxJump ahead: one peer's broken clock must
// not push everybody's to the end of the range. The error wraps
// [ErrClockJump].
func (c *Clock) WitnessBounded(lamport, maxJump uint64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if lamport > c.now && lamport-c.now > maxJump {
		return fmt.Errorf("%w: from %d to %d, at most %d allowed", ErrClockJump, c.now, lamport, maxJump)
	}
	c.now = max(c.now, lamport)
	return nil
}

// Now is the clock's time: the highest minted or witnessed.
func (c *Clock) Now() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// reserve writes the mark beside the file and renames it into place, so a
// crash leaves either the old or the new one.
func (c *Clock) reserve(mark uint64) error {
	if c.path != "" {
		if err := replaceFile(c.path, strconv.FormatUint(mark, 10)+"\n"); err != nil {
			return fmt.Errorf("reserve clock stamps up to %d: %w", mark, err)
		}
	}
	c.reserved = mark
	return nil
}

func replaceFile(path, content string) (err error) {
	tmp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(tmp.Name()))
		}
	}()
	if _, err = tmp.WriteString(content); err != nil {
		return errors.Join(err, tmp.Close())
	}
	if err = tmp.Sync(); err != nil {
		return errors.Join(err, tmp.Close())
	}
	if err = tmp.Close(); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

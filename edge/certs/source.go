package certs

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"slices"
	"syscall"
	"time"
)

const (
	// DefaultInterval is how often files are looked at.
	DefaultInterval = time.Second
	// maxFileSize bounds what is read of one file: a bundle of all public
	// roots is a quarter of it.
	maxFileSize = 1 << 20
	// racyWindow is how young a file must be for its content to be compared
	// though its time and size are the same: two writes may fall within the
	// file system's clock tick.
	racyWindow = 2 * time.Second
)

// source is a value that is read from one or more files together, and what it
// takes to notice that they have changed. It is used by one goroutine at a
// time.
type source[T any] struct {
	files []string
	parse func(contents [][]byte) (T, error)
	// refuse says why next is not to take the place of value now; nil: it
	// always may.
	refuse func(next, value T) error
	value  T  // in force
	held   *T // read since then and refused so far; nil: none

	seen    []fileState // at the last reading
	readAt  time.Time
	sum     [sha256.Size]byte // of what was read last
	pending []fileState       // changed, but not settled yet
	failure string            // of the last reading, empty after a good one
}

// fileState is what tells a changed file, links followed.
type fileState struct {
	size, modified int64 // bytes, Unix nanoseconds
	inode, device  uint64
	failure        string // why it could not be looked at
}

func stateOf(path string) fileState {
	info, err := os.Stat(path)
	if err != nil {
		return fileState{failure: err.Error()}
	}
	state := fileState{size: info.Size(), modified: info.ModTime().UnixNano()}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		state.inode, state.device = stat.Ino, uint64(stat.Dev) //nolint:unconvert // its type differs between systems
	}
	return state
}

func (s *source[T]) look() []fileState {
	states := make([]fileState, len(s.files))
	for i, file := range s.files {
		states[i] = stateOf(file)
	}
	return states
}

// settled reports whether what was read last is what is there.
func (s *source[T]) settled(found []fileState) bool {
	young := func(f fileState) bool { return f.modified > s.readAt.Add(-racyWindow).UnixNano() }
	return slices.Equal(found, s.seen) && !slices.ContainsFunc(found, young)
}

// first reads the files for the first time.
func (s *source[T]) first(now time.Time) error {
	refuse := s.refuse
	s.refuse = nil // it is this or nothing
	_, err := s.read(s.look(), now)
	s.refuse = refuse
	return err
}

// poll looks once. changed: value is new. An error is why what is there now
// cannot be used, told once; value stays as it was. Files that have changed
// must be the same at two looks before they are read: a certificate is
// replaced before its key, or the other way round.
func (s *source[T]) poll(now time.Time) (changed bool, err error) {
	found := s.look()
	if s.settled(found) {
		s.pending = nil
		return s.consider()
	}
	if !slices.Equal(found, s.seen) && !slices.Equal(found, s.pending) {
		s.pending = found
		return false, nil
	}
	s.pending = nil
	return s.read(found, now)
}

func (s *source[T]) read(found []fileState, now time.Time) (changed bool, err error) {
	s.seen, s.readAt = found, now
	contents, sum, err := readFiles(s.files)
	if err == nil && sum == s.sum {
		return s.consider()
	}
	s.sum, s.held = sum, nil
	var value T
	if err == nil {
		value, err = s.parse(contents)
	}
	if err != nil {
		return false, s.fail(err)
	}
	s.held = &value
	return s.consider()
}

// consider puts in force what was read last, unless that is refused: what is
// refused now may be taken later, as time goes by.
func (s *source[T]) consider() (changed bool, err error) {
	if s.held == nil {
		return false, nil
	}
	if s.refuse != nil {
		if err := s.refuse(*s.held, s.value); err != nil {
			return false, s.fail(err)
		}
	}
	s.value, s.held, s.failure = *s.held, nil, ""
	return true, nil
}

// fail returns err unless it has been told.
func (s *source[T]) fail(err error) error {
	text := err.Error()
	if text == s.failure {
		return nil
	}
	s.failure = text
	return err
}

// readFiles reads the files; the sum of none is that of a failure.
func readFiles(files []string) (contents [][]byte, sum [sha256.Size]byte, err error) {
	hash := sha256.New()
	for _, file := range files {
		data, err := readFile(file)
		if err != nil {
			return nil, [sha256.Size]byte{}, err
		}
		fmt.Fprintf(hash, "%d\n", len(data))
		hash.Write(data)
		contents = append(contents, data)
	}
	return contents, [sha256.Size]byte(hash.Sum(nil)), nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() // it was only read
	data, err := io.ReadAll(io.LimitReader(f, maxFileSize+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFileSize {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, maxFileSize)
	}
	return data, nil
}

// every calls f once an interval until ctx ends.
func every(ctx context.Context, interval time.Duration, f func(now time.Time)) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			f(now)
		}
	}
}

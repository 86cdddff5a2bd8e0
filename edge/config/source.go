package config

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"time"
)

// Source is where documents come from and go on coming from.
type Source interface {
	// Watch calls deliver, from its own goroutine alone, until ctx ends, and
	// returns ctx's error. The first call comes at once. Each call has either
	// a whole valid set or an error:
	//
	//   - a set when its Hash is not that of the set before, or when it
	//     follows an error, which is over then;
	//   - an error, once for each distinct one; the set before stays in force.
	Watch(ctx context.Context, deliver func(*Documents, error)) error
}

var _ Source = (*PathSource)(nil)

// DefaultPollInterval is how often a [PathSource] looks.
const DefaultPollInterval = 500 * time.Millisecond

const (
	// settleShare of the interval is how long changed files must stay as they
	// are before they are read: editors truncate and write.
	settleShare = 5
	// racyWindow is how young a file must be for its content to be compared
	// though its times and size are the same: two writes may fall within the
	// file system's clock tick.
	racyWindow = 2 * time.Second
	// readTries bounds reading anew while files change under the reader.
	readTries = 5
)

// PathSource watches a file or a folder (its *.yaml, *.yml and *.json files,
// hidden ones and subfolders left out). It compares names, sizes, times and
// inodes, following links, and so sees files replaced by rename and folders
// of links switched over at once. What it reads is one consistent state: files
// that change meanwhile are read again.
type PathSource struct {
	path     string
	interval time.Duration
}

// NewPathSource watches path; interval 0 is [DefaultPollInterval].
func NewPathSource(path string, interval time.Duration) *PathSource {
	if interval <= 0 {
		interval = DefaultPollInterval
	}
	return &PathSource{path: path, interval: interval}
}

// Watch implements [Source].
func (s *PathSource) Watch(ctx context.Context, deliver func(*Documents, error)) error {
	w := pathWatch{path: s.path, read: readAll, deliver: deliver}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case now := <-timer.C:
			if w.poll(now) {
				timer.Reset(s.interval)
			} else {
				timer.Reset(s.interval / settleShare)
			}
		}
	}
}

// pathWatch is one Watch under way.
type pathWatch struct {
	path    string
	read    func(listing) ([]File, Problems) // readAll, save in tests
	deliver func(*Documents, error)

	started bool
	seen    listing // what was read last
	readAt  time.Time
	content [sha256.Size]byte // of what was read last
	pending listing           // changed, but not settled yet
	missing string            // why nothing could be read at the last look

	hash    string // of the set delivered last
	failure string // the error delivered last, empty since a set
}

// poll looks once. settled is false while a change awaits another look.
func (w *pathWatch) poll(now time.Time) (settled bool) {
	found, problem := list(w.path)
	if problem != nil {
		return w.fail(Problems{*problem})
	}
	same := slices.Equal(found, w.seen)
	if w.started && same && !w.seen.youngerThan(w.readAt.Add(-racyWindow)) {
		w.pending = nil
		return true
	}
	if w.started && !same && !slices.Equal(found, w.pending) {
		w.pending = found
		return false
	}
	files, problems := w.read(found)
	if problems != nil {
		return w.fail(problems)
	}
	again, problem := list(w.path)
	if problem != nil || !slices.Equal(found, again) {
		w.pending = again
		return false
	}
	w.pending, w.missing = nil, ""
	sum := sumOf(files)
	changed := !w.started || sum != w.content
	w.started, w.seen, w.readAt, w.content = true, found, now, sum
	if changed {
		w.parse(files)
	}
	return true
}

func (w *pathWatch) parse(files []File) {
	documents, err := ParseDocuments(files)
	if err != nil {
		w.failAs(err)
		return
	}
	if documents.Hash == w.hash && w.failure == "" {
		return
	}
	w.hash, w.failure = documents.Hash, ""
	w.deliver(documents, nil)
}

// fail reports that nothing could be read, once it is so at a second look: a
// file that is being replaced may be missing for a moment. The next content is
// news again.
func (w *pathWatch) fail(err error) (settled bool) {
	w.seen, w.pending = nil, nil
	if text := err.Error(); w.started && text != w.missing {
		w.missing = text
		return false
	}
	w.content = [sha256.Size]byte{}
	w.failAs(err)
	return true
}

func (w *pathWatch) failAs(err error) {
	if text := err.Error(); text != w.failure {
		w.failure = text
		w.deliver(nil, err)
	}
}

func sumOf(files []File) [sha256.Size]byte {
	sum := sha256.New()
	for _, f := range files {
		fmt.Fprintf(sum, "%q %d\n", f.Name, len(f.Data))
		sum.Write(f.Data)
	}
	return [sha256.Size]byte(sum.Sum(nil))
}

// ReadDocuments reads a file or folder once, as [PathSource] does. The error
// is a [Problems].
func ReadDocuments(path string) (*Documents, error) {
	files, err := readStable(path)
	if err != nil {
		return nil, err
	}
	return ParseDocuments(files)
}

// readStable reads one consistent state of a file or folder.
func readStable(path string) ([]File, error) {
	for range readTries {
		found, problem := list(path)
		if problem != nil {
			return nil, Problems{*problem}
		}
		files, problems := readAll(found)
		again, problem := list(path)
		if problem == nil && slices.Equal(found, again) {
			if problems != nil {
				return nil, problems
			}
			return files, nil
		}
	}
	return nil, Problems{{File: path, Found: "files that keep changing", Allowed: "files at rest"}}
}

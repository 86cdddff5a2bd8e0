package config

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// stepper polls a watch step by step.
type stepper struct {
	t         *testing.T
	file      string
	watch     pathWatch
	delivered []string // hash or error
}

func newStepper(t *testing.T, text string) *stepper {
	t.Helper()
	s := &stepper{t: t, file: filepath.Join(t.TempDir(), "routes.yaml")}
	s.watch = pathWatch{path: s.file, read: readAll, deliver: func(d *Documents, err error) {
		if err != nil {
			s.delivered = append(s.delivered, err.Error())
			return
		}
		s.delivered = append(s.delivered, d.Routes[0].Path)
	}}
	s.write(text)
	return s
}

func (s *stepper) write(text string) {
	s.t.Helper()
	if err := os.WriteFile(s.file, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// poll looks once and expects how many deliveries there have been.
func (s *stepper) poll(settled bool, deliveries int) {
	s.t.Helper()
	if got := s.watch.poll(time.Now()); got != settled {
		s.t.Errorf("settled: %v, want %v", got, settled)
	}
	if len(s.delivered) != deliveries {
		s.t.Fatalf("delivered %q, want %d of them", s.delivered, deliveries)
	}
}

const (
	valid   = "[{ id: a, path: /1, upstream: s }]"
	changed = "[{ id: a, path: /1/2, upstream: s }]"
)

// TestChangedFilesMustSettle: a file that is truncated and then written is
// read once it stays as it is.
func TestChangedFilesMustSettle(t *testing.T) {
	s := newStepper(t, valid)
	s.poll(true, 1)
	s.write("")
	s.poll(false, 1)
	s.write(changed)
	s.poll(false, 1)
	s.poll(true, 2)
	if s.delivered[1] != "/1/2" {
		t.Errorf("delivered %q", s.delivered)
	}
}

// TestFilesThatChangeUnderTheReaderAreReadAgain: what was read together with
// the change is not delivered.
func TestFilesThatChangeUnderTheReaderAreReadAgain(t *testing.T) {
	s := newStepper(t, valid)
	s.watch.read = func(found listing) ([]File, Problems) {
		files, problems := readAll(found)
		s.watch.read = readAll
		s.write(changed)
		return files, problems
	}
	s.poll(false, 0)
	s.poll(true, 1)
	if s.delivered[0] != "/1/2" {
		t.Errorf("delivered %q", s.delivered)
	}
}

// TestOneFailureIsReportedOnce, however often the file is written with it.
func TestOneFailureIsReportedOnce(t *testing.T) {
	s := newStepper(t, "[{ id: a, path: bad, upstream: s }]")
	s.poll(true, 1)
	s.write("[{ id: a, path: bad, upstream: s }] # once more")
	s.poll(false, 1)
	s.poll(true, 1)
	s.write(valid)
	s.poll(false, 1)
	s.poll(true, 2)
	s.write("[{ id: a, path: bad, upstream: s }]")
	s.poll(false, 2)
	s.poll(true, 3)
	if err := os.Remove(s.file); err != nil {
		t.Fatal(err)
	}
	s.poll(false, 3)
	s.poll(true, 4)
	s.poll(true, 4)
}

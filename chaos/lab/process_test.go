package lab

import (
	"strings"
	"testing"
)

// slipping is an output that panics.
type slipping struct{}

func (slipping) Write([]byte) (int, error) { panic("a slip") }

// TestProcessWithoutAnEar: a process whose output nobody can take goes on to its
// end, however much it says, and that nobody took it is an error.
func TestProcessWithoutAnEar(t *testing.T) {
	s := newSpawner()
	go s.run()
	defer s.stop()
	p, err := s.start("talker", "", "/bin/sh", []string{"-c", "head -c 1000000 /dev/zero | tr '\\0' '\\n'; exit 3"}, &lineWriter{out: slipping{}})
	done(t, err)
	<-p.exited
	if said := p.describe(); !strings.Contains(said, "exit status 3") || !strings.Contains(said, "panic: a slip") {
		t.Errorf("it %s", said)
	}
}

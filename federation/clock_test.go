package federation_test

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/grayfed/grayfed/federation"
)

func TestClockNeverMintsTwiceAcrossRestarts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "clock")
	var last federation.Stamp
	for restart := range 5 {
		c, err := federation.OpenClock("edge-1", path)
		if err != nil {
			t.Fatal(err)
		}
		if restart == 2 {
			c.Witness(1_000_000)
		}
		for range 5000 {
			s, err := c.Tick()
			if err != nil {
				t.Fatal(err)
			}
			if s.Compare(last) <= 0 {
				t.Fatalf("minted %s after %s", s, last)
			}
			last = s
		}
	}
	if last.Lamport < 1_000_000 {
		t.Errorf("a restart forgot what etcd held: %s", last)
	}
}

func TestClockRefusesAnUnreadableMark(t *testing.T) {
	path := filepath.Join(t.TempDir(), "clock")
	if err := os.WriteFile(path, []byte("not a number"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := federation.OpenClock("edge-1", path); err == nil {
		t.Error("went on from zero")
	}
}

func TestClockGivesNothingOutThatIsNotReserved(t *testing.T) {
	c, err := federation.OpenClock("edge-1", filepath.Join(t.TempDir(), "missing", "clock"))
	if err != nil {
		t.Fatal(err)
	}
	if s, err := c.Tick(); err == nil {
		t.Errorf("minted %s without a mark on disk", s)
	}
}

func TestClockBoundsGossip(t *testing.T) {
	c, err := federation.OpenClock("edge-1", "")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.WitnessBounded(1<<20, 1<<20); err != nil || c.Now() != 1<<20 {
		t.Errorf("a jump of the bound itself: %v, now %d", err, c.Now())
	}
	if err := c.WitnessBounded(1<<62, 1<<20); !errors.Is(err, federation.ErrClockJump) || c.Now() != 1<<20 {
		t.Errorf("a jump past the bound: %v, now %d", err, c.Now())
	}
	c.Witness(1 << 62)
	if c.Now() != 1<<62 {
		t.Error("what etcd holds was bounded")
	}
}

func TestClockIsTotalAmongGoroutines(t *testing.T) {
	c, err := federation.OpenClock("edge-1", filepath.Join(t.TempDir(), "clock"))
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	seen := make(map[uint64]bool)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 500 {
				s, err := c.Tick()
				mu.Lock()
				if err != nil || seen[s.Lamport] {
					t.Errorf("minted %s twice, or %v", s, err)
				}
				seen[s.Lamport] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

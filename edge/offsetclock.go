package edge

import (
	"os"
	"strings"
	"sync"
	"time"
)

// clockInterval is between two looks at the file of an offset clock.
const clockInterval = 100 * time.Millisecond

// OffsetClock is the wall clock, set off by what a file says: a duration with a
// sign, such as "+1h" or "-30s", that may change and be taken away at any time.
// Without the file, or with anything else in it, the clock is right. It is how
// drills let a clock leap; it is safe for concurrent use.
func OffsetClock(file string) func() time.Time {
	var mu sync.Mutex
	var looked time.Time     // guarded by mu
	var offset time.Duration // guarded by mu
	return func() time.Time {
		now := time.Now()
		mu.Lock()
		defer mu.Unlock()
		if now.Sub(looked) >= clockInterval {
			looked, offset = now, readOffset(file)
		}
		// Without the monotonic reading, which a leap does not move.
		return now.Round(0).Add(offset)
	}
}

func readOffset(file string) time.Duration {
	data, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	offset, err := time.ParseDuration(strings.TrimSpace(string(data)))
	if err != nil {
		return 0
	}
	return offset
}

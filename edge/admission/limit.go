package admission

import "sync/atomic"

// Limit bounds how many requests are under way at once. The zero value has no
// bound. It is safe for concurrent use.
type Limit struct {
	max      atomic.Int64 // 0: none
	inFlight atomic.Int64
}

// Set changes the bound; 0 is none. Requests above a lowered one go on.
func (l *Limit) Set(most int64) { l.max.Store(most) }

// InFlight is how many are under way.
func (l *Limit) InFlight() int64 { return l.inFlight.Load() }

// HasRoom reports whether one more would get in.
func (l *Limit) HasRoom() bool {
	most := l.max.Load()
	return most == 0 || l.inFlight.Load() < most
}

// Enter takes a place, if there is one. It never counts, not even for a
// moment, what does not get in: the holder of the last place may leave in that
// moment, and who waits would be told of a place and find none.
func (l *Limit) Enter() bool {
	for {
		n := l.inFlight.Load()
		if most := l.max.Load(); most != 0 && n >= most {
			return false
		}
		if l.inFlight.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// Leave gives the place back. Whoever has a [Queue] for the places calls its
// Freed after this.
func (l *Limit) Leave() { l.inFlight.Add(-1) }

package federation

import (
	"slices"
	"sync"
)

// subscriptionLimit bounds the names a slow subscriber makes the catalog keep;
// past it the subscriber is told that everything may have changed.
const subscriptionLimit = 10_000

// Subscription tells one reader which services differ from the snapshot it
// took last. It is safe for concurrent use.
type Subscription struct {
	catalog *Catalog
	wake    chan struct{}

	mu      sync.Mutex
	changed map[string]struct{} // mu
	all     bool                // mu
}

// Subscribe returns a subscription that has everything to take.
func (c *Catalog) Subscribe() *Subscription {
	s := &Subscription{
		catalog: c,
		wake:    make(chan struct{}, 1),
		changed: make(map[string]struct{}),
		all:     true,
	}
	s.wake <- struct{}{}
	c.mu.Lock()
	c.subs = append(slices.Clone(c.subs), s)
	c.mu.Unlock()
	return s
}

// C has an element when there is something to take.
func (s *Subscription) C() <-chan struct{} { return s.wake }

// Take returns the current snapshot and the names of the services that changed
// since the last call, or all true when any may have.
func (s *Subscription) Take() (snap *Snapshot, changed []string, all bool) {
	s.mu.Lock()
	changed = make([]string, 0, len(s.changed))
	for name := range s.changed {
		changed = append(changed, name)
	}
	all = s.all
	clear(s.changed)
	s.all = false
	s.mu.Unlock()
	// Loaded after the names were taken: a change in between is in the
	// snapshot already and will be told once more, never missed.
	return s.catalog.Snapshot(), changed, all
}

// Close ends the subscription.
func (s *Subscription) Close() {
	c := s.catalog
	c.mu.Lock()
	defer c.mu.Unlock()
	c.subs = slices.DeleteFunc(slices.Clone(c.subs), func(o *Subscription) bool { return o == s })
}

func (s *Subscription) notify(changed []string) {
	s.mu.Lock()
	for _, name := range changed {
		if s.all {
			break
		}
		s.changed[name] = struct{}{}
		if len(s.changed) > subscriptionLimit {
			s.all = true
			clear(s.changed)
		}
	}
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default: // it is awake already and will take this too
	}
}

package health

import "container/heap"

// schedule is a heap of trackers by time; each is in it at most once.
type schedule struct {
	times    []moment
	trackers []*Tracker
}

var _ heap.Interface = (*schedule)(nil)

// Len is for the heap.
func (s *schedule) Len() int { return len(s.times) }

// Less is for the heap.
func (s *schedule) Less(i, j int) bool { return s.times[i] < s.times[j] }

// Swap is for the heap.
func (s *schedule) Swap(i, j int) {
	s.times[i], s.times[j] = s.times[j], s.times[i]
	s.trackers[i], s.trackers[j] = s.trackers[j], s.trackers[i]
	s.trackers[i].state.index, s.trackers[j].state.index = int32(i), int32(j)
}

// Push is for the heap.
func (s *schedule) Push(x any) {
	t := x.(*Tracker)
	t.state.index = int32(len(s.trackers))
	s.trackers = append(s.trackers, t)
	s.times = append(s.times, 0)
}

// Pop is for the heap.
func (s *schedule) Pop() any {
	last := len(s.trackers) - 1
	t := s.trackers[last]
	s.trackers[last] = nil
	s.trackers, s.times = s.trackers[:last], s.times[:last]
	t.state.index = -1
	return t
}

func (s *schedule) first() *Tracker {
	if len(s.trackers) == 0 {
		return nil
	}
	return s.trackers[0]
}

func (s *schedule) put(t *Tracker, at moment) {
	if t.state.index < 0 {
		heap.Push(s, t)
	}
	s.times[t.state.index] = at
	heap.Fix(s, int(t.state.index))
}

func (s *schedule) remove(t *Tracker) {
	if t.state.index >= 0 {
		heap.Remove(s, int(t.state.index))
	}
}

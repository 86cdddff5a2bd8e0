package admission_test

import (
	"errors"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/grayfed/grayfed/edge/admission"
)

// service is a limit and the queue before it, used as a gateway does.
type service struct {
	limit admission.Limit
	queue *admission.Queue
}

func newService(places int64, o admission.Options) *service {
	s := &service{queue: admission.NewQueue(o)}
	s.limit.Set(places)
	return s
}

func (s *service) enter(deadline time.Time) error {
	if s.queue.Waiting() == 0 && s.limit.Enter() {
		return nil
	}
	w, err := s.queue.Join()
	if err != nil {
		return err
	}
	return s.wait(w, deadline)
}

func (s *service) wait(w *admission.Waiter, deadline time.Time) error {
	for {
		if err := w.Turn(deadline); err != nil {
			return err
		}
		if s.limit.Enter() {
			w.Took()
			return nil
		}
	}
}

func (s *service) leave() {
	s.limit.Leave()
	s.queue.Freed()
}

var none time.Time // no deadline

func TestFirstComeFirstServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(2, admission.Options{Size: 10, Wait: time.Second})
		for range 2 {
			if err := s.enter(none); err != nil {
				t.Fatal(err)
			}
		}
		var order []int
		for i := range 10 {
			go func() {
				if err := s.enter(none); err != nil {
					t.Error(err)
				}
				order = append(order, i)
			}()
			synctest.Wait()
		}
		if n := s.queue.Waiting(); n != 10 || len(order) != 0 {
			t.Fatalf("%d wait, %d were let in", n, len(order))
		}
		for i := range 10 {
			s.leave()
			synctest.Wait()
			if len(order) != i+1 {
				t.Fatalf("%d let in after %d places came free", len(order), i+1)
			}
		}
		if !slices.IsSorted(order) {
			t.Errorf("let in as %v", order)
		}
		if s.limit.InFlight() != 2 || s.queue.Waiting() != 0 || s.queue.Timeouts() != 0 {
			t.Errorf("%d in, %d wait, %d timeouts", s.limit.InFlight(), s.queue.Waiting(), s.queue.Timeouts())
		}
	})
}

// TestWhoComesLaterWaits: a place that one who waits was told of is not taken
// by one who comes in that moment.
func TestWhoComesLaterWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(1, admission.Options{Size: 10, Wait: time.Second})
		_ = s.enter(none)
		first := false
		go func() {
			first = s.enter(none) == nil
		}()
		synctest.Wait()
		s.leave() // the first is told, and has not run yet
		w, err := s.queue.Join()
		if err != nil {
			t.Fatal(err)
		}
		if err := s.wait(w, time.Now().Add(100*time.Millisecond)); !errors.Is(err, admission.ErrTimeout) {
			t.Fatalf("the second got %v", err)
		}
		if synctest.Wait(); !first {
			t.Fatal("the first got nothing")
		}
	})
}

func TestFullQueueRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(1, admission.Options{Size: 2, Wait: time.Second})
		_ = s.enter(none)
		for range 2 {
			go func() {
				if err := s.enter(none); !errors.Is(err, admission.ErrTimeout) {
					t.Errorf("one that waits gets %v", err)
				}
			}()
		}
		synctest.Wait()
		for range 3 {
			if err := s.enter(none); !errors.Is(err, admission.ErrFull) {
				t.Fatalf("a third that waits gets %v", err)
			}
		}
		if s.queue.Refused() != 3 {
			t.Errorf("%d refused are counted", s.queue.Refused())
		}
		began := time.Now()
		time.Sleep(time.Second)
		synctest.Wait()
		if s.queue.Waiting() != 0 || s.queue.Timeouts() != 2 || time.Since(began) != time.Second {
			t.Errorf("after the wait %d still do, %d timeouts", s.queue.Waiting(), s.queue.Timeouts())
		}
		// Without a queue everything above the limit is refused at once.
		s.queue.SetOptions(admission.Options{})
		if err := s.enter(none); !errors.Is(err, admission.ErrFull) {
			t.Errorf("without a queue: %v", err)
		}
	})
}

func TestDeadlineEndsTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(1, admission.Options{Size: 2, Wait: time.Minute})
		_ = s.enter(none)
		began := time.Now()
		if err := s.enter(began.Add(3 * time.Second)); !errors.Is(err, admission.ErrTimeout) || time.Since(began) != 3*time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		// One that is later than the queue's own wait does not prolong it.
		if err := s.enter(began.Add(time.Hour)); !errors.Is(err, admission.ErrTimeout) || time.Since(began) != 63*time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

// TestWhoGoesPassesItsTurnOn: one that was told of a place and goes away
// without it tells the next.
func TestWhoGoesPassesItsTurnOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(1, admission.Options{Size: 10, Wait: time.Minute})
		_ = s.enter(none)
		gone, _ := s.queue.Join()
		var err error
		go func() { err = s.wait(gone, none) }()
		synctest.Wait()
		entered := false
		go func() { entered = s.enter(none) == nil }()
		synctest.Wait()
		s.leave()
		gone.Interrupt()
		synctest.Wait()
		if !errors.Is(err, admission.ErrInterrupted) || !entered {
			t.Fatalf("the one that went: %v; the next got in: %v", err, entered)
		}
		// In the middle and at the end of the queue, too.
		var waiters []*admission.Waiter
		errs := make([]error, 5)
		for i := range errs {
			w, _ := s.queue.Join()
			waiters = append(waiters, w)
			go func() { errs[i] = s.wait(w, none) }()
		}
		synctest.Wait()
		waiters[4].Interrupt()
		waiters[2].Interrupt()
		synctest.Wait()
		for range 3 {
			s.leave()
			synctest.Wait()
		}
		for i, err := range errs {
			if interrupted := i == 2 || i == 4; errors.Is(err, admission.ErrInterrupted) != interrupted || !interrupted && err != nil {
				t.Errorf("%d: %v", i, err)
			}
		}
		if s.queue.Waiting() != 0 {
			t.Errorf("%d still wait", s.queue.Waiting())
		}
	})
}

// TestPlaceThatCameFreeBeforeJoining: nobody told of it, since nobody waited.
func TestPlaceThatCameFreeBeforeJoining(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(2, admission.Options{Size: 10, Wait: time.Second})
		_, _ = s.enter(none), s.enter(none)
		s.leave()
		s.leave()
		first, _ := s.queue.Join()
		second, _ := s.queue.Join()
		var errs [2]error
		go func() { errs[1] = s.wait(second, none) }()
		synctest.Wait()
		go func() { errs[0] = s.wait(first, none) }()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if errs[0] != nil || errs[1] != nil {
			t.Errorf("places are free, and: %v, %v", errs[0], errs[1])
		}
	})
}

// TestPlaceThatComesFreeDuringATry: the try may have looked there before.
func TestPlaceThatComesFreeDuringATry(t *testing.T) {
	s := newService(1, admission.Options{Size: 10, Wait: admission.MaxWait})
	_ = s.enter(none)
	w, _ := s.queue.Join()
	for range 3 {
		if err := w.Turn(none); err != nil || s.limit.Enter() {
			t.Fatalf("got in while full, or %v", err)
		}
		s.queue.Freed()
	}
	s.limit.Leave()
	if err := w.Turn(none); err != nil || !s.limit.Enter() {
		t.Fatal("no turn though a place came free")
	}
	w.Took()
}

func TestChangedLimitLetsAllIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(1, admission.Options{Size: 10, Wait: time.Second})
		_ = s.enter(none)
		var in atomic.Int64
		for range 5 {
			go func() {
				if s.enter(none) == nil {
					in.Add(1)
				}
			}()
		}
		synctest.Wait()
		s.limit.Set(4)
		s.queue.Changed()
		synctest.Wait()
		if in.Load() != 3 || s.queue.Waiting() != 2 {
			t.Errorf("%d let in, %d wait", in.Load(), s.queue.Waiting())
		}
		s.limit.Set(0)
		s.queue.Changed()
		synctest.Wait()
		if in.Load() != 5 {
			t.Errorf("without a limit %d of 5 are in", in.Load())
		}
	})
}

// TestNoPlaceIsMissed: everybody gets a place in the end, though all come and
// go at once, some give up, and nobody looks twice without being told.
func TestNoPlaceIsMissed(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for _, places := range []int64{1, 3} {
		const workers, each = 16, 1500
		s := newService(places, admission.Options{Size: workers, Wait: admission.MaxWait})
		var under, interrupted atomic.Int64
		var done sync.WaitGroup
		for worker := range uint64(workers) {
			done.Go(func() {
				random := rand.New(rand.NewPCG(seed, worker))
				for range each {
					err := error(nil)
					if s.queue.Waiting() > 0 || !s.limit.Enter() {
						w, full := s.queue.Join()
						if full != nil {
							t.Error(full)
							return
						}
						if random.IntN(4) == 0 {
							go w.Interrupt()
						}
						err = s.wait(w, none)
					}
					switch {
					case errors.Is(err, admission.ErrInterrupted):
						interrupted.Add(1)
						continue
					case err != nil:
						t.Errorf("seed %d: %v", seed, err)
						return
					}
					if n := under.Add(1); n > places {
						t.Errorf("%d in %d places", n, places)
					}
					for range random.IntN(3) {
						runtime.Gosched() // others come meanwhile
					}
					under.Add(-1)
					s.leave()
				}
			})
		}
		done.Wait()
		if s.limit.InFlight() != 0 || s.queue.Waiting() != 0 {
			t.Errorf("%d in, %d wait when all are gone", s.limit.InFlight(), s.queue.Waiting())
		}
		if n := interrupted.Load(); n == 0 || n == workers*each {
			t.Errorf("%d of %d were interrupted: the test shows nothing", n, workers*each)
		}
	}
}

// TestLimitNeverCountsWhoDoesNotGetIn: else the last place could come free and
// be missed by the one who is told of it.
func TestLimitNeverCountsWhoDoesNotGetIn(t *testing.T) {
	var limit admission.Limit
	limit.Set(1)
	var done sync.WaitGroup
	for range 4 {
		done.Go(func() {
			for range 500_000 {
				if !limit.Enter() {
					continue
				}
				for range 3 {
					if n := limit.InFlight(); n != 1 {
						t.Errorf("%d in one place", n)
						return
					}
				}
				limit.Leave()
			}
		})
	}
	done.Wait()
	if limit.InFlight() != 0 || !limit.HasRoom() {
		t.Errorf("%d in when all are gone", limit.InFlight())
	}
}

func TestWithoutWaitersNothingIsAllocated(t *testing.T) {
	s := newService(1, admission.Options{Size: 10, Wait: time.Second})
	if n := testing.AllocsPerRun(100, func() {
		if s.enter(none) == nil {
			s.leave()
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestValidate(t *testing.T) {
	for _, o := range []admission.Options{{}, {Size: 1, Wait: admission.MinWait}, {Size: admission.MaxSize, Wait: admission.MaxWait}} {
		if err := o.Validate(); err != nil {
			t.Errorf("%+v: %v", o, err)
		}
	}
	for _, o := range []admission.Options{{Size: -1}, {Size: admission.MaxSize + 1, Wait: time.Second}, {Size: 1}, {Size: 1, Wait: admission.MaxWait + 1}} {
		if o.Validate() == nil {
			t.Errorf("%+v is accepted", o)
		}
	}
}

func BenchmarkEnterLeave(b *testing.B) {
	s := newService(8, admission.Options{Size: 10, Wait: time.Second})
	b.ReportAllocs()
	for b.Loop() {
		if err := s.enter(none); err != nil {
			b.Fatal(err)
		}
		s.leave()
	}
}

// BenchmarkWait is a request's whole way through a queue in which many others
// wait before it.
func BenchmarkWait(b *testing.B) {
	s := newService(1, admission.Options{Size: 100, Wait: admission.MaxWait})
	b.ReportAllocs()
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := s.enter(none); err != nil {
				b.Error(err)
				return
			}
			s.leave()
		}
	})
}

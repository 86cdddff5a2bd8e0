package gateway

import (
	"sync"
	"sync/atomic"
	"testing"
)

// taken is how many retries the budget still lets through.
func (b *budget) taken() (n int) {
	for b.take() {
		n++
	}
	return n
}

func TestBudget(t *testing.T) {
	var b budget
	if n := b.taken(); n != 3 {
		t.Errorf("%d retries without a request, want the floor of 3", n)
	}
	for range 100 {
		b.request()
	}
	if n := b.taken(); n != 17 {
		t.Errorf("%d more retries for 100 requests, want 20 in all", n)
	}
	// Nine seconds later nothing has aged, the tenth brings all back.
	for range budgetTicks {
		b.tick()
		if b.take() {
			t.Fatal("a retry beyond the budget")
		}
	}
	b.tick()
	if n := b.taken(); n != 3 {
		t.Errorf("%d retries after the window, want 3", n)
	}
	// The window slides: requests of each second count for ten.
	for range 30 {
		for range 10 {
			b.request()
		}
		b.tick()
	}
	if n := b.taken(); n < 18 || n > 20 {
		t.Errorf("%d retries at 10 requests a second, want 20%% of 100", n)
	}
}

func TestBudgetIsExactTogether(t *testing.T) {
	var b budget
	for range 1000 {
		b.request()
	}
	var taken atomic.Int64
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 100 {
				if b.take() {
					taken.Add(1)
				}
			}
		})
	}
	all.Wait()
	if taken.Load() != 200 {
		t.Errorf("%d retries for 1000 requests", taken.Load())
	}
}

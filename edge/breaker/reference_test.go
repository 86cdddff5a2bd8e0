package breaker_test

import (
	"errors"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/grayfed/grayfed/edge/breaker"
)

var (
	errFailed  = errors.New("failed")
	errIgnored = errors.New("ignored")
)

// settings are those of a plain gobreaker with the options' meaning.
func settings(o breaker.Options) gobreaker.Settings {
	return gobreaker.Settings{
		MaxRequests: uint32(o.Trials),
		Interval:    o.Window,
		Timeout:     o.OpenFor,
		ReadyToTrip: func(c gobreaker.Counts) bool {
			finished := c.TotalFailures + c.TotalSuccesses
			return finished >= uint32(o.MinRequests) && float64(c.TotalFailures)/float64(finished) >= o.FailureRatio
		},
		IsExcluded: func(err error) bool { return errors.Is(err, errIgnored) },
	}
}

func stateOf(s gobreaker.State) breaker.State {
	switch s {
	case gobreaker.StateClosed:
		return breaker.Closed
	case gobreaker.StateHalfOpen:
		return breaker.HalfOpen
	case gobreaker.StateOpen:
		return breaker.Open
	}
	return breaker.StateUnknown
}

func randomOptions(random *rand.Rand) breaker.Options {
	return breaker.Options{
		FailureRatio: []float64{0.1, 0.4, 0.6, 0.7, 0.8, 1}[random.IntN(6)],
		MinRequests:  1 + random.IntN(20),
		OpenFor:      time.Duration(1+random.IntN(20)) * time.Second,
		Window:       time.Duration(1+random.IntN(20)) * time.Second,
		Trials:       1 + random.IntN(6),
	}
}

// outcome draws what a request ends with; a phase of a history has its own
// share of failures.
func outcome(random *rand.Rand, failing float64) error {
	switch p := random.Float64(); {
	case p < 0.1:
		return errIgnored
	case p < 0.1+0.9*failing:
		return errFailed
	}
	return nil
}

func report(b *breaker.Breaker, ticket breaker.Ticket, err error) {
	switch {
	case err == nil:
		b.Success(ticket, time.Now())
	case errors.Is(err, errFailed):
		b.Failure(ticket)
	default:
		b.Ignore(ticket)
	}
}

// wait lets up to a few seconds pass, often none and sometimes a whole number
// of them, so that ends of windows and open times are met exactly.
func wait(random *rand.Rand) {
	switch random.IntN(10) {
	case 0:
		time.Sleep(time.Duration(random.IntN(6)) * time.Second)
	case 1:
		time.Sleep(time.Duration(random.Int64N(int64(3 * time.Second))))
	case 2:
		time.Sleep(time.Nanosecond)
	}
}

// TestIsPlainGobreaker runs histories of requests, one after another, through
// a breaker and through the library as it comes.
func TestIsPlainGobreaker(t *testing.T) {
	changes := 0
	for seed := range uint64(400) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 0))
			o := randomOptions(random)
			plain := gobreaker.NewCircuitBreaker[struct{}](settings(o))
			b := breaker.New(o, func(breaker.State, breaker.State) { changes++ })
			failing := 0.0
			for step := range 400 {
				if step%40 == 0 {
					failing = random.Float64()
				}
				wait(random)
				err := outcome(random, failing)
				_, refused := plain.Execute(func() (struct{}, error) { return struct{}{}, err })
				passes := !errors.Is(refused, gobreaker.ErrOpenState) && !errors.Is(refused, gobreaker.ErrTooManyRequests)
				admits := b.Admits()
				ticket, ok := b.Enter()
				if ok != passes || admits != passes {
					t.Fatalf("seed %d, step %d: %+v: entered %v, admitted %v, plain gobreaker %v", seed, step, o, ok, admits, passes)
				}
				if ok {
					report(b, ticket, err)
				}
				if got, want := b.State(), stateOf(plain.State()); got != want {
					t.Fatalf("seed %d, step %d: %+v: %v after %v, plain gobreaker %v", seed, step, o, got, err, want)
				}
			}
		})
	}
	if changes < 2000 {
		t.Errorf("only %d changes of state: the histories show nothing", changes)
	}
}

// TestIsGobreakerForRequestsThatOverlap: as the library's two steps, but that
// requests of a closed breaker count when they end, if the state did not change
// meanwhile.
func TestIsGobreakerForRequestsThatOverlap(t *testing.T) {
	changes := 0
	for seed := range uint64(400) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 1))
			o := randomOptions(random)
			epoch := 0
			with := settings(o)
			with.OnStateChange = func(string, gobreaker.State, gobreaker.State) { epoch++ }
			plain := gobreaker.NewTwoStepCircuitBreaker[struct{}](with)
			b := breaker.New(o, func(breaker.State, breaker.State) { changes++ })
			type request struct {
				ticket breaker.Ticket
				epoch  int
				done   func(error)
			}
			var under []request
			failing := 0.0
			for step := range 600 {
				if step%60 == 0 {
					failing = random.Float64()
				}
				wait(random)
				if len(under) < 12 && random.IntN(2) == 0 {
					r := request{}
					passes := true
					if plain.State() != gobreaker.StateClosed {
						var err error
						r.done, err = plain.Allow()
						passes = err == nil
					}
					r.epoch = epoch
					admits := b.Admits()
					ticket, ok := b.Enter()
					if ok != passes || admits != passes {
						t.Fatalf("seed %d, step %d: %+v: entered %v, admitted %v, gobreaker %v", seed, step, o, ok, admits, passes)
					}
					if r.ticket = ticket; ok {
						under = append(under, r)
					}
				} else if len(under) > 0 {
					i := random.IntN(len(under))
					r := under[i]
					under = append(under[:i], under[i+1:]...)
					err := outcome(random, failing)
					if plain.State(); r.done == nil && r.epoch == epoch {
						r.done, _ = plain.Allow()
					}
					if r.done != nil {
						r.done(err)
					}
					report(b, r.ticket, err)
				}
				if got, want := b.State(), stateOf(plain.State()); got != want {
					t.Fatalf("seed %d, step %d: %+v: %v, gobreaker %v", seed, step, o, got, want)
				}
			}
		})
	}
	if changes < 2000 {
		t.Errorf("only %d changes of state: the histories show nothing", changes)
	}
}

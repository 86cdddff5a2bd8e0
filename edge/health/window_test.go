package health

import (
	"math/rand/v2"
	"testing"
	"time"
)

func TestWindowAgainstAPlainCount(t *testing.T) {
	for seed := range uint64(50) {
		random := rand.New(rand.NewPCG(seed, 0))
		type outcome struct {
			at     int64
			failed bool
		}
		var w window
		var all []outcome
		now := int64(1_700_000_000) * int64(time.Second)
		for range 2000 {
			now += random.Int64N(int64(200 * time.Millisecond))
			if random.IntN(200) == 0 {
				now += random.Int64N(int64(5 * time.Minute))
			}
			failed := random.IntN(3) == 0
			if failed {
				w.fail(now)
			} else {
				w.succeed(now)
			}
			all = append(all, outcome{now, failed})
		}
		from := (now/int64(bucketSpan) - 5) * int64(bucketSpan)
		var failures, total uint64
		for _, o := range all {
			if o.at >= from {
				total++
				if o.failed {
					failures++
				}
			}
		}
		if f, n := w.sums(now); f != failures || n != total {
			t.Errorf("seed %d: counted %d of %d, want %d of %d", seed, f, n, failures, total)
		}
	}
}

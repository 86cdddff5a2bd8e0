package registry

import (
	"context"
	"sync"
)

// eachOf calls do with each item, at most workers at a time, and returns when
// all have returned. It starts no more once ctx is over.
func eachOf[T any](ctx context.Context, items []T, workers int, do func(T)) {
	work := make(chan T)
	var running sync.WaitGroup
	for range min(workers, len(items)) {
		running.Go(func() {
			for item := range work {
				do(item)
			}
		})
	}
	for _, item := range items {
		if ctx.Err() != nil {
			break
		}
		work <- item
	}
	close(work)
	running.Wait()
}

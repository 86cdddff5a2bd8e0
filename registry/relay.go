package registry

import (
	"context"
	"sync"

	"github.com/grayfed/grayfed/federation"
)

const (
	// relayedQueue bounds the heartbeats of edges that etcd does not answer.
	// One that is dropped comes again: a TTL has several.
	relayedQueue   = 1024
	relayedWorkers = 4
)

// SetRelay says how a heartbeat reaches some edge that etcd answers; it fails
// when there is none.
func (r *Registry) SetRelay(relay func(ctx context.Context, key federation.Key) error) {
	r.relay.Store(&relay)
}

// relayOn gives a heartbeat that this edge has kept to one that etcd answers.
// Without one, nobody can have taken the instance over either.
func (r *Registry) relayOn(ctx context.Context, key federation.Key) {
	relay := r.relay.Load()
	if relay == nil {
		return
	}
	if err := (*relay)(ctx, key); err != nil {
		r.log.Debug("heartbeat is not relayed", "instance", key.String(), "error", err)
		return
	}
	r.counters.relayedBeats.Add(1)
}

// RelayedHeartbeat takes a heartbeat from an edge that etcd does not answer. It
// does not block: Run does with it what it does with any, save that it is not
// relayed again.
func (r *Registry) RelayedHeartbeat(key federation.Key) {
	select {
	case r.relayed <- key:
	default:
		r.counters.lostRelays.Add(1)
	}
}

func (r *Registry) takeRelayed(ctx context.Context) {
	var working sync.WaitGroup
	for range relayedWorkers {
		working.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case key := <-r.relayed:
					if _, err := r.heartbeat(ctx, key); err != nil && ctx.Err() == nil {
						r.log.Debug("relayed heartbeat is not taken", "instance", key.String(), "error", err)
					}
				}
			}
		})
	}
	working.Wait()
}

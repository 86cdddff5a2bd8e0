package consul

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/consul/api"
)

const (
	// watchWait is how long a question waits for a change before it is
	// answered as it is. Each answer proves a leader, so this is also how
	// often one is.
	watchWait = 500 * time.Millisecond
	// watchTimeout bounds a question. Without a leader an agent waits up to
	// seven seconds for one (rpc_hold_timeout); nothing is lost by giving up
	// earlier, and the next may find one.
	watchTimeout = watchWait + 1500*time.Millisecond
	// watchPause parts two questions, so that entries that change without end
	// do not keep the edge busy.
	watchPause = 20 * time.Millisecond
	// The wait after a failure, doubling.
	watchRetryMin, watchRetryMax = 100 * time.Millisecond, time.Second
	// The time that what was published has to get to where it is read before
	// it is published again; doubling as long as that does not help, as with
	// a token that may not read it.
	patienceMin, patienceMax = time.Second, 30 * time.Second
)

var errNoLeader = errors.New("there is no leader")

// watch reads the entries of all edges until ctx ends.
func (p *Publisher) watch(ctx context.Context) {
	again := backoff{min: watchRetryMin, max: watchRetryMax}
	w := watcher{publisher: p, patience: patienceMin}
	var index uint64
	for ctx.Err() == nil {
		asked := time.Now()
		found, reached, err := p.ask(ctx, index)
		if err != nil {
			index = 0
			if p.failing(ctx, &p.watchErr, err) {
				p.opts.Log.Warn("entries cannot be read from Consul", "service", p.opts.Service, "error", err)
			}
			again.wait(ctx)
			continue
		}
		again.reset()
		if p.mended(&p.watchErr) {
			p.opts.Log.Info("entries are read from Consul again", "service", p.opts.Service)
		}
		// One that went back is of servers that were restored: nothing may be
		// waited for at the old one.
		if reached < index {
			reached = 0
		}
		index = reached
		w.take(found, asked)
		pause(ctx, watchPause)
	}
}

// ask returns what a leader, which proves to its quorum that it is one, holds
// once it is past index or the wait is over.
func (p *Publisher) ask(ctx context.Context, index uint64) ([]held, uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, watchTimeout)
	defer cancel()
	options := &api.QueryOptions{
		RequireConsistent: true, WaitIndex: index, WaitTime: watchWait,
		// An agent of version 1.10 or newer answers questions that wait from a
		// copy of its own, whatever consistency they ask for, but not those
		// for an order by distance.
		Near: "_agent",
	}
	var found []held
	meta, err := p.client.Raw().Query("/v1/health/service/"+p.opts.Service, &found, options.WithContext(ctx))
	if err == nil && !meta.KnownLeader {
		err = errNoLeader
	}
	if err != nil {
		return nil, 0, fmt.Errorf("read service %s from a leader: %w", p.opts.Service, err)
	}
	return found, meta.LastIndex, nil
}

// watcher judges what is read. It belongs to the goroutine of watch.
type watcher struct {
	publisher *Publisher
	said      map[string]struct{} // what was wrong in the last answer
	patience  time.Duration
	corrected bool // since what was published was last found
}

// take gives an answer to a question asked then.
func (w *watcher) take(found []held, asked time.Time) {
	p := w.publisher
	entries, refused := decode(p.opts.Service, found)
	w.complain(refused)
	w.verify(found, asked)
	view := View{Entries: entries, Confirmed: asked}
	p.mu.Lock()
	p.view = view
	p.mu.Unlock()
	p.opts.OnView(view)
}

// complain counts what it has not said of the last answer, and logs it in one
// line: a stranger may have written a thousand of them.
func (w *watcher) complain(refused []refusal) {
	said := w.said
	w.said = make(map[string]struct{}, len(refused))
	var fresh []refusal
	for _, r := range refused {
		text := r.where + r.err.Error()
		if _, old := said[text]; !old {
			fresh = append(fresh, r)
		}
		w.said[text] = struct{}{}
	}
	if len(fresh) == 0 {
		return
	}
	w.publisher.counters.refused.Add(uint64(len(fresh)))
	w.publisher.opts.Log.Warn("Consul holds entries that are not believed",
		"count", len(fresh), "example", fresh[0].where, "error", fresh[0].err)
}

// verify has the entry published again when Consul, asked then, holds another:
// somebody else wrote it.
func (w *watcher) verify(found []held, asked time.Time) {
	p := w.publisher
	published := p.published.Load()
	if published == nil {
		return
	}
	for i := range found {
		if found[i].Service.ID == p.id && p.opts.holds(&found[i], published) {
			w.patience, w.corrected = patienceMin, false
			return
		}
	}
	if asked.Sub(published.changed) < w.patience {
		return // it may be on its way
	}
	p.counters.corrections.Add(1)
	if !w.corrected {
		p.opts.Log.Warn("Consul holds another entry than was published, which is published again", "service", p.id)
	}
	w.corrected = true
	w.patience = min(2*w.patience, patienceMax)
	p.wrong.Store(true)
	p.wake()
}

package http2

import "sync"

// job is work that may block.
type job interface{ run() }

// workers run jobs on goroutines that are used again: one that has served a
// request has a stack that is large enough for the next.
type workers struct {
	mu      sync.Mutex
	idle    []*worker // mu; the last one worked last
	unused  int       // mu; the fewest idle ones since the last trim
	stopped bool      // mu; idle ones end
}

type worker struct {
	next chan job // nil: end
}

// do runs j, never on the caller's goroutine.
func (p *workers) do(j job) {
	p.mu.Lock()
	if n := len(p.idle) - 1; n >= 0 {
		w := p.idle[n]
		p.idle[n] = nil
		p.idle = p.idle[:n]
		p.unused = min(p.unused, n)
		p.mu.Unlock()
		w.next <- j // it has room
		return
	}
	p.mu.Unlock()
	w := &worker{next: make(chan job, 1)}
	go w.loop(p, j)
}

func (w *worker) loop(p *workers, j job) {
	for j != nil {
		j.run()
		if !p.rest(w) {
			return
		}
		j = <-w.next
	}
}

// rest makes w idle, unless it is to end.
func (p *workers) rest(w *worker) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return false
	}
	p.idle = append(p.idle, w)
	return true
}

// trim ends the workers that nobody needed since the last call.
func (p *workers) trim() {
	p.mu.Lock()
	n := p.unused
	gone := append([]*worker(nil), p.idle[:n]...)
	kept := copy(p.idle, p.idle[n:])
	clear(p.idle[kept:])
	p.idle = p.idle[:kept]
	p.unused = kept
	p.mu.Unlock()
	for _, w := range gone {
		w.next <- nil
	}
}

// stop ends the idle workers, and the others when they are.
func (p *workers) stop() {
	p.mu.Lock()
	p.stopped = true
	idle := p.idle
	p.idle, p.unused = nil, 0
	p.mu.Unlock()
	for _, w := range idle {
		w.next <- nil
	}
}

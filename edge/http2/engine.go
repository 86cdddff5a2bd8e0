package http2

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// sweepTick is how often deadlines are looked at. A deadline is kept to
	// within two ticks, never early.
	sweepTick = 100 * time.Millisecond
	// trimTicks is how often idle workers are let go of, in ticks.
	trimTicks = 50
)

// Engine is what connections share: a coarse clock, the sweeper that keeps
// their deadlines, buffers, and the goroutines that handlers run on. A server
// and any number of transports may use one. It does nothing until Run is
// called.
type Engine struct {
	base    time.Time
	now     atomic.Int64 // nanoseconds since base, one tick coarse, never 0
	date    atomic.Pointer[string]
	buffers [bufferClasses]sync.Pool // of *buffer
	streams sync.Pool                // of *serverStream
	calls   sync.Pool                // of *call
	workers workers

	mu    sync.Mutex
	swept []sweepable // mu
}

// sweepable is looked at once a tick.
type sweepable interface {
	sweep(now int64)
	// slot is where the engine notes its place in the list.
	slot() *int
}

// NewEngine returns an engine for one server, one or more transports, or all
// of them.
func NewEngine() *Engine {
	e := &Engine{base: time.Now()}
	for class, size := range bufferSizes {
		e.buffers[class].New = func() any { return &buffer{b: make([]byte, size), class: uint8(class)} }
	}
	e.streams.New = func() any { return newServerStream() }
	e.calls.New = func() any { return newCall() }
	e.tick(e.base)
	return e
}

// Run keeps the deadlines of all connections until ctx ends, and returns nil.
// Without it no timeout ever fires. Goroutines that are idle then end; those at
// work end with it.
func (e *Engine) Run(ctx context.Context) error {
	ticker := time.NewTicker(sweepTick)
	defer ticker.Stop()
	defer e.workers.stop()
	var list []sweepable
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return nil
		case now := <-ticker.C:
			list = e.sweepAll(now, list)
			if n%trimTicks == 0 {
				e.workers.trim()
			}
		}
	}
}

// sweepAll works on a copy of the list, because a sweep may end a connection,
// which takes it off the list.
func (e *Engine) sweepAll(now time.Time, list []sweepable) []sweepable {
	e.tick(now)
	e.mu.Lock()
	list = append(list[:0], e.swept...)
	e.mu.Unlock()
	at := e.now.Load()
	for i, item := range list {
		item.sweep(at)
		list[i] = nil
	}
	return list
}

func (e *Engine) tick(now time.Time) {
	e.now.Store(int64(now.Sub(e.base)) + 1)
	if date := now.UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT"); e.date.Load() == nil || *e.date.Load() != date {
		e.date.Store(&date)
	}
}

// until is the engine's time of something that may last for d from now; 0,
// which is never, for d of 0 or less.
func (e *Engine) until(d time.Duration) int64 {
	if d <= 0 {
		return 0
	}
	// The clock may be a tick old: without the tick more, it would be early.
	return e.now.Load() + int64(d+sweepTick)
}

// at is the engine's time of t; 0 for the zero time.
func (e *Engine) at(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return max(int64(t.Sub(e.base)), 1)
}

// sooner is the earlier of two deadlines, where 0 is never.
func sooner(a, b int64) int64 {
	if a == 0 || (b != 0 && b < a) {
		return b
	}
	return a
}

// over reports whether a deadline has passed.
func over(until, now int64) bool { return until != 0 && now >= until }

func (e *Engine) add(item sweepable) {
	e.mu.Lock()
	defer e.mu.Unlock()
	*item.slot() = len(e.swept)
	e.swept = append(e.swept, item)
}

func (e *Engine) remove(item sweepable) {
	e.mu.Lock()
	defer e.mu.Unlock()
	place, last := *item.slot(), len(e.swept)-1
	e.swept[place] = e.swept[last]
	*e.swept[place].slot() = place
	e.swept[last] = nil
	e.swept = e.swept[:last]
}

// The sizes of pooled buffers: small ones and large ones hold received
// bodies, the largest what is read from a connection or written to it.
const (
	bufferSmall = iota
	bufferLarge
	bufferIO
	bufferClasses
)

var bufferSizes = [bufferClasses]int{2 << 10, 16 << 10, 64 << 10}

// buffer is pooled by pointer, so that giving it back does not allocate.
// b[r:w] is what it holds.
type buffer struct {
	b     []byte
	r, w  int
	class uint8
}

func (e *Engine) getBuffer(class int) *buffer {
	b := e.buffers[class].Get().(*buffer)
	b.r, b.w = 0, 0
	return b
}

func (e *Engine) putBuffer(b *buffer) { e.buffers[b.class].Put(b) }

// Package observe is the evidence of requests: the access log and the metrics.
package observe

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// gather is how long the first line of a batch waits for others: the
	// writer wakes a few times a second, not once a request.
	gather = 50 * time.Millisecond
	// wakeAt is how many lines wake the writer before that.
	wakeAt = 256
	// chunk is about how many bytes go to the output at once.
	chunk = 64 << 10
	// lineText is the room for the strings of a line, on average over a full
	// queue: what is longer uses the room of others.
	lineText = 1 << 10

	defaultQueue = 8192
	maxQueue     = 1_000_000
)

// AccessLogOptions configure an [AccessLog].
type AccessLogOptions struct {
	// Output gets whole lines, many with one Write, from one goroutine.
	Output io.Writer
	// Queue is how many lines, and KiB of their strings, may wait to be
	// written, 1 to 1,000,000; 8192 when 0. Lines beyond are dropped and
	// counted: a request never waits for the log.
	Queue int
	// Query adds the query string. It often holds secrets (tokens, e-mail
	// addresses, signatures), so it is left out unless asked for.
	Query bool
	// Registerer gets the log's own metrics; nil: none.
	Registerer prometheus.Registerer
}

func (o AccessLogOptions) validate() error {
	switch {
	case o.Output == nil:
		return fmt.Errorf("access log options: output is required")
	case o.Queue < 1 || o.Queue > maxQueue:
		return fmt.Errorf("access log options: queue %d: allowed 1 to %d lines", o.Queue, maxQueue)
	}
	return nil
}

// AccessLog writes one JSON object a line and request, off the request path.
// It is safe for concurrent use.
type AccessLog struct {
	output  io.Writer
	queue   int
	counted counters

	first chan struct{} // a batch got its first line
	many  chan struct{} // a batch has wakeAt lines

	mu      sync.Mutex
	filling *batch // guarded by mu
	writing int    // guarded by mu: lines taken out, but not yet written

	// Of the goroutine of Run.
	spare   *batch
	encoder encoder
	lines   []byte
}

// NewAccessLog returns a log that takes lines; [AccessLog.Run] writes them.
func NewAccessLog(o AccessLogOptions) (*AccessLog, error) {
	if o.Queue == 0 {
		o.Queue = defaultQueue
	}
	if err := o.validate(); err != nil {
		return nil, err
	}
	l := &AccessLog{
		output:  o.Output,
		queue:   o.Queue,
		first:   make(chan struct{}, 1),
		many:    make(chan struct{}, 1),
		filling: &batch{},
		spare:   &batch{},
		encoder: encoder{query: o.Query},
	}
	if err := l.counted.register(o.Registerer); err != nil {
		return nil, fmt.Errorf("register access log metrics: %w", err)
	}
	return l, nil
}

// Log takes the line of one request. It never blocks on the output and keeps
// nothing of r.
func (l *AccessLog) Log(r *Record) {
	size := r.textSize()
	l.mu.Lock()
	waiting := len(l.filling.records) + l.writing
	if waiting >= l.queue || l.filling.size+size > l.queue*lineText {
		l.mu.Unlock()
		l.counted.dropped.Add(1)
		return
	}
	l.filling.add(r, size)
	n := len(l.filling.records)
	l.mu.Unlock()
	switch n {
	case 1:
		signal(l.first)
	case wakeAt:
		signal(l.many)
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Run writes what is logged within 100 ms, until ctx ends; then it writes what
// is left and returns nil. An output that fails loses the lines it was given,
// which are counted, and is tried again with the next ones; one that blocks for
// good blocks the end of Run. Two of it must not run at once.
func (l *AccessLog) Run(ctx context.Context) error {
	timer := time.NewTimer(gather)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			l.writeBatch()
			return nil
		case <-l.first:
		}
		timer.Reset(gather)
		select {
		case <-ctx.Done():
		case <-l.many:
		case <-timer.C:
		}
		l.writeBatch()
	}
}

// writeBatch writes what waits now.
func (l *AccessLog) writeBatch() {
	l.mu.Lock()
	b := l.filling
	l.filling, l.writing = l.spare, len(b.records)
	l.mu.Unlock()
	encoded := 0
	for i := range b.records {
		l.lines = l.encoder.encode(l.lines, &b.records[i])
		encoded++
		if len(l.lines) >= chunk || i == len(b.records)-1 {
			l.flush(encoded)
			encoded = 0
		}
	}
	b.reset()
	l.spare = b
	l.mu.Lock()
	l.writing = 0
	l.mu.Unlock()
}

// flush gives n whole lines to the output.
func (l *AccessLog) flush(n int) {
	data := l.lines
	accepted, err := l.output.Write(data)
	l.lines = data[:0]
	if err == nil {
		l.counted.written.Add(uint64(n))
		return
	}
	l.counted.failed.Add(uint64(n))
	if accepted > 0 && accepted < len(data) && data[accepted-1] != '\n' {
		l.lines = append(l.lines, '\n') // the next line is not to lie behind half a line
	}
}

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

const (
	// openLoopConnections bounds the requests under way. Those beyond wait,
	// and their waiting counts.
	openLoopConnections = 256
	// openLoopLimit is how long one request may take.
	openLoopLimit = 15 * time.Second
)

// openLoop sends requests at a fixed rate, whatever the answers take. Latency
// counts from the moment a request was meant to be sent, so that a stall costs
// all the requests that it kept from being sent.
type openLoop struct {
	To    netip.AddrPort
	Rate  int // a second
	Count int
	Posts bool // every other request is a POST
}

// outcome is what came of one request.
type outcome struct {
	Post     bool
	Intended time.Time // when it was meant to be sent
	Queued   time.Time // when the generator had it sent
	Sent     time.Time // when a connection took it
	Done     time.Time
	From     instanceName // who answered; empty for a failed request
	Failure  string       // "" for an answer from an instance
}

func (o *outcome) latency() time.Duration { return o.Done.Sub(o.Intended) }

// run returns when every request was answered or failed, or ctx has ended: then
// the rest was not sent. begun is told the moment of the first.
func (l openLoop) run(ctx context.Context, begun func(time.Time)) []outcome {
	outcomes := make([]outcome, l.Count)
	queue := make(chan *outcome, l.Count)
	var done sync.WaitGroup
	for range openLoopConnections {
		done.Go(func() {
			w := &wire{to: l.To, limit: openLoopLimit}
			defer func() { _ = w.close() }() // nothing is in flight on it
			for o := range queue {
				o.ask(w)
			}
		})
	}
	start := time.Now()
	begun(start)
	for n := range outcomes {
		if ctx.Err() != nil {
			break
		}
		o := &outcomes[n]
		o.Intended = start.Add(time.Duration(n) * time.Second / time.Duration(l.Rate))
		o.Post = l.Posts && n%2 == 1
		pause(time.Until(o.Intended))
		o.Queued = time.Now()
		queue <- o
	}
	close(queue)
	done.Wait()
	return outcomes
}

func (o *outcome) ask(w *wire) {
	request := get(pathPrefix+"42", canaryRelease)
	if o.Post {
		request = post(pathPrefix+"42", canaryRelease)
	}
	o.Sent = time.Now()
	answer, err := w.ask(request)
	o.Done = time.Now()
	switch {
	case err != nil:
		o.Failure = "no answer: " + err.Error()
	case answer.Status != http.StatusOK:
		o.Failure = fmt.Sprintf("%d %.300s", answer.Status, problemText(answer.Body))
	default:
		if err := json.Unmarshal(answer.Body, &o.From); err != nil || o.From.Zone == "" {
			o.Failure = fmt.Sprintf("an answer of nobody: %.100q", answer.Body)
		}
	}
}

// problemText is what an edge says of its refusal, without what differs from
// request to request.
func problemText(body []byte) string {
	var problem struct{ Detail, Reason string }
	if json.Unmarshal(body, &problem) != nil || problem.Detail == "" {
		return fmt.Sprintf("%.100q", body)
	}
	if problem.Reason == "" {
		return problem.Detail
	}
	return problem.Detail + " (" + problem.Reason + ")"
}

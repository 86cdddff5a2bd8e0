package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"mime"
	"net/http"
	"time"
)

const (
	// maxEvent bounds an event, in bytes, and a line of the stream.
	maxEvent = 1 << 20
	// eventSilence is how long a stream may be silent: an edge that lives
	// writes a comment every 15 s.
	eventSilence = 45 * time.Second
)

// errSilent ends a stream whose edge is gone without a word.
var errSilent = errors.New("no sign of life from the edge")

// Events yields the edge's events after the one whose id is after; empty:
// those from now on. It ends with ctx, with an error in its last yield
// otherwise: the edge is gone, or refused (see [Client]). [EventMissed] says
// that events are lost to this reader.
func (c *Client) Events(ctx context.Context, after string) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		stream, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		silence := time.AfterFunc(eventSilence, func() { cancel(errSilent) })
		defer silence.Stop()
		err := c.events(stream, after, func() { silence.Reset(eventSilence) }, func(e Event) bool { return yield(e, nil) })
		if err != nil && ctx.Err() == nil {
			yield(Event{}, err)
		}
	}
}

// events calls found for each event; it is nil when found has seen enough.
func (c *Client) events(ctx context.Context, after string, alive func(), found func(Event) bool) error {
	request, err := c.request(ctx, http.MethodGet, "/v1/events", nil)
	if err != nil {
		return err
	}
	request.Header.Set("Accept", ContentTypeEvents)
	if after != "" {
		request.Header.Set("Last-Event-ID", after)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return c.failed(ctx, request, err)
	}
	defer func() { _ = response.Body.Close() }() // a stream is left, not ended
	kind, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type"))
	if response.StatusCode != http.StatusOK || kind != ContentTypeEvents {
		data, err := io.ReadAll(io.LimitReader(response.Body, MaxBody))
		if err != nil {
			return c.failed(ctx, request, err)
		}
		return fmt.Errorf("GET %s: %w", request.URL, readProblem(response, data))
	}
	err = readEvents(response.Body, alive, found)
	if err != nil && context.Cause(ctx) != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return &UnreachableError{URL: c.base, Timeout: c.timeout, Err: fmt.Errorf("events broke off: %w", err)}
	}
	return nil
}

// readEvents reads a stream as the HTML standard has it ("Server-sent events",
// 9.2.6), but for the fields that no edge writes.
func readEvents(stream io.Reader, alive func(), found func(Event) bool) error {
	lines := bufio.NewScanner(stream)
	lines.Buffer(nil, maxEvent)
	var data []byte
	for lines.Scan() {
		alive()
		line := lines.Bytes()
		if value, ok := bytes.CutPrefix(line, []byte("data:")); ok {
			data = append(data, bytes.TrimPrefix(value, []byte(" "))...)
			if len(data) > maxEvent {
				return fmt.Errorf("an event of more than %d bytes", maxEvent)
			}
			continue
		}
		if len(line) > 0 || len(data) == 0 {
			continue // id and event stand in the data too; comments
		}
		var e Event
		if err := json.Unmarshal(data, &e); err != nil {
			return fmt.Errorf("ill-formed event: %w", err)
		}
		data = data[:0]
		if !found(e) {
			return nil
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return io.EOF // an edge that shuts down ends the stream
}

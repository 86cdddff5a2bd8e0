package admin

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/grayfed/grayfed/edge/api"
)

const (
	// eventKeepAlive is how often a comment shows that a silent stream lives.
	eventKeepAlive = 15 * time.Second
	// eventBatch is how many events are written at once.
	eventBatch = 64
	// maxReaders bounds the open streams, well below the connections.
	maxReaders = 64
)

// getEvents writes server-sent events until the reader goes away or this server
// shuts down.
func (s *Server) getEvents(w http.ResponseWriter, c *call) error {
	events := s.opts.Events
	defer events.readers.Add(-1)
	if events.readers.Add(1) > maxReaders {
		return problem(http.StatusServiceUnavailable, api.ProblemSubscribers, "Too Many Readers",
			fmt.Sprintf("%d streams of events are open, and no more are allowed", maxReaders))
	}
	stream := eventStream{w: w, control: http.NewResponseController(w), timeout: s.timeouts.write}
	place := events.last()
	var first []api.Event
	if id := c.Header.Get("Last-Event-ID"); id != "" {
		resumed, ok := events.resume(id)
		if ok {
			place = resumed
		} else {
			first = append(first, events.missedEvent(place, "the edge has restarted since that event: read the state again"))
		}
	}
	w.Header().Set("Content-Type", api.ContentTypeEvents)
	w.WriteHeader(http.StatusOK)
	// A browser that lost the stream tries again after a second.
	if c.Method == http.MethodHead || !stream.write([]byte("retry: 1000\n\n")) || !stream.events(first) {
		return nil
	}
	s.follow(c, &stream, place)
	return nil
}

func (s *Server) follow(c *call, stream *eventStream, place uint64) {
	ticker := time.NewTicker(s.keepAlive)
	defer ticker.Stop()
	for {
		batch, next, news := s.opts.Events.after(place, eventBatch)
		place = next
		if len(batch) > 0 {
			if !stream.events(batch) {
				return
			}
			select {
			case <-s.stopping:
				return
			default:
				continue
			}
		}
		select {
		case <-c.Context().Done():
			return
		case <-s.stopping:
			return
		case <-news:
		case <-ticker.C:
			if !stream.write([]byte(": alive\n\n")) {
				return
			}
		}
	}
}

// eventStream writes to one reader.
type eventStream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	timeout time.Duration // of one write
}

// events writes a batch; false: the reader is gone or too slow.
func (s *eventStream) events(batch []api.Event) bool {
	if len(batch) == 0 {
		return true
	}
	var text []byte
	for n := range batch {
		data, err := json.Marshal(&batch[n])
		if err != nil {
			return false // plain structs and text always encode
		}
		text = fmt.Appendf(text, "id: %s\nevent: %s\ndata: %s\n\n", batch[n].ID, batch[n].Type, data)
	}
	return s.write(text)
}

func (s *eventStream) write(text []byte) bool {
	if s.control.SetWriteDeadline(time.Now().Add(s.timeout)) != nil {
		return false
	}
	_, err := s.w.Write(text)
	return err == nil && s.control.Flush() == nil
}

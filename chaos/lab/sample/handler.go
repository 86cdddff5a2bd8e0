package sample

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/grayfed/grayfed/federation"
)

const healthPath = "/healthz"

// maxDelay bounds what an instance can be told to wait with every answer.
const maxDelay = time.Minute

// who is what the service answers.
type who struct {
	Service  string `json:"service"`
	Version  string `json:"version"`
	Zone     string `json:"zone"`
	Instance string `json:"instance"`
	ID       string `json:"id,omitempty"` // of the user that was asked for
}

// Behaviour is the body of PUT /chaos: how the instance fails its clients from
// now on. Its health endpoint stays well, as it does in a grey failure. The
// zero value mends it.
type Behaviour struct {
	ErrorPercent int                 `json:"error_percent"` // of requests answered 503; 0 to 100
	Delay        federation.Duration `json:"delay"`         // before each answer; 0 to 1 min
}

func (b Behaviour) validate() error {
	if b.ErrorPercent < 0 || b.ErrorPercent > 100 {
		return fmt.Errorf("error_percent is %d, allowed 0 to 100", b.ErrorPercent)
	}
	if delay := time.Duration(b.Delay); delay < 0 || delay > maxDelay {
		return fmt.Errorf("delay is %s, allowed 0 to %s", delay, maxDelay)
	}
	return nil
}

type handler struct {
	me        who
	behaviour atomic.Pointer[Behaviour]
}

func newHandler(opts Options) http.Handler {
	h := &handler{me: who{Service: opts.Service, Version: opts.Version, Zone: opts.Zone, Instance: opts.ID}}
	h.behaviour.Store(new(Behaviour))
	mux := http.NewServeMux()
	mux.HandleFunc(healthPath, h.answer)
	mux.HandleFunc("/api/v1/users/{id}", h.behave)
	mux.HandleFunc("PUT /chaos", h.change)
	return mux
}

func (h *handler) answer(w http.ResponseWriter, r *http.Request) {
	mine := h.me
	mine.ID = r.PathValue("id")
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(mine) // a client that is gone needs no answer
}

// behave answers as it was told to.
func (h *handler) behave(w http.ResponseWriter, r *http.Request) {
	b := h.behaviour.Load()
	if b.Delay > 0 {
		select {
		case <-time.After(time.Duration(b.Delay)):
		case <-r.Context().Done():
			return
		}
	}
	if rand.IntN(100) < b.ErrorPercent {
		http.Error(w, "told to fail", http.StatusServiceUnavailable)
		return
	}
	h.answer(w, r)
}

func (h *handler) change(w http.ResponseWriter, r *http.Request) {
	var b Behaviour
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<10))
	if err == nil {
		err = json.Unmarshal(body, &b)
	}
	if err == nil {
		err = b.validate()
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	h.behaviour.Store(&b)
	w.WriteHeader(http.StatusNoContent)
}

package admin

import (
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/grayfed/grayfed/edge/api"
)

// serveAPI is the handler of the API's listener.
func (s *Server) serveAPI(w http.ResponseWriter, r *http.Request) {
	s.serve(w, r, func(answer *recorder) (*endpoint, error) {
		// Who is nobody learns nothing, not even what there is, save for what
		// is open to all.
		if e, vars := s.openEndpoint(r); e != nil {
			return e, e.serve(s, answer, &call{Request: r, vars: vars})
		}
		who, err := s.admit(answer, r)
		if err != nil {
			return nil, err
		}
		e, vars, err := s.find(answer, r)
		if err != nil {
			return nil, err
		}
		if e.write && !who.write {
			return e, problem(http.StatusForbidden, api.ProblemRole, http.StatusText(http.StatusForbidden),
				"this token may only read; "+r.Method+" needs one with the role write")
		}
		return e, e.serve(s, answer, &call{Request: r, caller: who, vars: vars})
	})
}

// serveHealth is the handler of the health listener.
func (s *Server) serveHealth(w http.ResponseWriter, r *http.Request) {
	s.serve(w, r, func(answer *recorder) (*endpoint, error) {
		e, vars, err := s.find(answer, r)
		if err != nil {
			return nil, err
		}
		if !e.health {
			return nil, plainProblem(http.StatusNotFound, "this listener has /healthz, /readyz, /metrics and /v1/failover/check")
		}
		return e, e.serve(s, answer, &call{Request: r, vars: vars})
	})
}

// serve answers with the problem of what handle returns, and counts.
func (s *Server) serve(w http.ResponseWriter, r *http.Request, handle func(*recorder) (*endpoint, error)) {
	answer := &recorder{ResponseWriter: w}
	answer.Header().Set("Cache-Control", "no-store")
	answer.Header().Set("X-Content-Type-Options", "nosniff")
	e, err := handle(answer)
	if err != nil && answer.status == 0 {
		p, internal := problemOf(err)
		if internal {
			s.log.Error("request of the API failed", "method", r.Method, "path", r.URL.Path, "error", err)
		}
		s.refuse(answer, r, p)
	}
	s.metrics.answered(e, answer.status)
}

// refuse writes a problem document. The problem is another's to keep.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, p *api.Problem) {
	told := *p
	told.Instance = r.URL.EscapedPath()
	if told.Status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	if told.Status == http.StatusRequestEntityTooLarge {
		w.Header().Set("Connection", "close") // the rest of the body is not read
	}
	s.reply(w, told.Status, api.ContentTypeProblem, &told)
}

// reply writes one JSON document.
func (s *Server) reply(w http.ResponseWriter, status int, contentType string, document any) {
	data, err := json.Marshal(document)
	if err != nil { // plain structs and text always encode
		s.log.Error("answer of the API is not encoded", "error", err)
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	data = append(data, '\n')
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	w.WriteHeader(status)
	_, _ = w.Write(data) // a client that went away needs no answer
}

func (s *Server) replyJSON(w http.ResponseWriter, status int, document any) {
	s.reply(w, status, api.ContentTypeJSON, document)
}

// recorder remembers the status of the answer.
type recorder struct {
	http.ResponseWriter
	status int // 0: nothing written
}

// WriteHeader notes the first status that is final.
func (w *recorder) WriteHeader(status int) {
	if w.status == 0 && status >= http.StatusOK {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implies status 200.
func (w *recorder) Write(data []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(data)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

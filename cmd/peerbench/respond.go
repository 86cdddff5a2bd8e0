package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// What the load is about: the same for every proxy and both sides of it.
const (
	stableRelease = "stable"
	canaryRelease = "v2-beta"
	tagHeader     = "x-release-tag"
	loadHost      = "bench.test"
	pathPrefix    = "/api/v1/users/"
	bodySize      = 1024
)

// Queries that an origin answers with something else than the body of the load.
const (
	echoQuery  = "?peerbench=echo"
	statsQuery = "?peerbench=stats"
)

// echo is what an origin saw of one request.
type echo struct {
	Release string              `json:"release"`
	Line    string              `json:"line"`
	Headers map[string][]string `json:"headers"` // by lower-case name
}

// originStats counts what an origin has seen since it started.
type originStats struct {
	Requests  int64 `json:"requests"`
	Accepted  int64 `json:"accepted"`   // connections
	WrongLane int64 `json:"wrong_lane"` // load requests that belong to the other release
}

// responder turns request heads into responses. It has no lock: an origin is
// one thread.
type responder struct {
	release  string
	canary   bool
	answer   []byte
	requests int64
	accepted int64
	wrong    int64
}

func newResponder(release string) responder {
	body := make([]byte, 0, bodySize)
	body = fmt.Appendf(body, `{"service":"user-service","version":%q,"fill":"`, release)
	body = append(body, bytes.Repeat([]byte("x"), bodySize-len(body)-2)...)
	body = append(body, '"', '}')
	return responder{
		release: release,
		canary:  release == canaryRelease,
		answer:  appendResponse(nil, release, body),
	}
}

func appendResponse(out []byte, release string, body []byte) []byte {
	out = fmt.Appendf(out, "HTTP/1.1 200 OK\r\nDate: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\nX-Origin: %s\r\n\r\n",
		time.Now().UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT"), len(body), release)
	return append(out, body...)
}

var (
	endOfHead   = []byte("\r\n\r\n")
	loadPath    = []byte("GET /api/")
	query       = []byte("?peerbench=")
	canaryValue = []byte(canaryRelease)
)

var errOriginRequest = errors.New("origin answers only GET without a body")

// respond appends to out one response for each whole request head in in, and
// returns the bytes of the unfinished head that are left.
func (r *responder) respond(out, in []byte) (_, rest []byte, _ error) {
	for {
		end := bytes.Index(in, endOfHead)
		if end < 0 {
			return out, in, nil
		}
		head := in[:end]
		in = in[end+len(endOfHead):]
		if !bytes.HasPrefix(head, []byte("GET ")) {
			return out, nil, errOriginRequest
		}
		r.requests++
		line := head[:max(bytes.IndexByte(head, '\r'), 0)]
		if bytes.Contains(line, query) {
			out = r.special(out, line, head)
			continue
		}
		// Probes of other paths carry no tag and are nobody's mistake.
		if bytes.HasPrefix(head, loadPath) && bytes.Contains(head, canaryValue) != r.canary {
			r.wrong++
		}
		out = append(out, r.answer...)
	}
}

func (r *responder) special(out, line, head []byte) []byte {
	var answer any
	if bytes.Contains(line, []byte(statsQuery)) {
		answer = originStats{Requests: r.requests, Accepted: r.accepted, WrongLane: r.wrong}
	} else {
		answer = r.echo(head)
	}
	body, err := json.Marshal(answer)
	if err != nil {
		body = fmt.Appendf(nil, `{"error":%q}`, err)
	}
	return appendResponse(out, r.release, body)
}

func (r *responder) echo(head []byte) echo {
	seen := echo{Release: r.release, Headers: make(map[string][]string)}
	for i, line := range strings.Split(string(head), "\r\n") {
		if i == 0 {
			seen.Line = line
			continue
		}
		name, value, _ := strings.Cut(line, ":")
		name = strings.ToLower(name)
		seen.Headers[name] = append(seen.Headers[name], strings.TrimSpace(value))
	}
	return seen
}

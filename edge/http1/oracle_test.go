package http1

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/valyala/fasthttp"

	"github.com/grayfed/grayfed/edge/exchange"
)

// message is what a reader makes of the bytes of one message: all that two
// readers must agree on, so that what this gateway decides on is what the
// endpoint acts on.
type message struct {
	method, target, authority string
	http10                    bool
	status                    int
	fields                    map[string][]string // by lower-case name, without those that end at a hop
	body                      string
	trailer                   map[string][]string
	rest                      string // what is behind the message
}

// add notes a field.
func add(fields map[string][]string, name, value string) {
	name = strings.ToLower(name)
	fields[name] = append(fields[name], value)
}

var testLimits = headLimits{bytes: 32 << 10, target: 8 << 10, fields: 100}

// ownRequest reads a request as the server does; ok only if it is complete
// and good. named are the fields that its Connection names.
func ownRequest(data []byte) (m message, named []string, ok bool) {
	data = bytes.Clone(data) // decoding moves pieces together
	var req exchange.Request
	var h head
	n, reason := parseRequest(data, &req, &h, testLimits)
	if n == needMore || reason != ReasonNone {
		return m, nil, false
	}
	m = message{method: req.Method, target: req.Path, authority: req.Authority, http10: req.Proto == exchange.HTTP10}
	if req.HasQuery {
		m.target += "?" + req.Query
	}
	m.fields = ownFields(&req.Header)
	kind, _ := requestFraming(&exchange.Request{Body: new(exchange.BytesBody), ContentLength: req.ContentLength})
	return m, h.named, ownBody(data, n, kind, req.ContentLength, &m)
}

// ownResponse is ownRequest for a response to a request of the method.
func ownResponse(data []byte, method string) (m message, named []string, ok bool) {
	data = bytes.Clone(data)
	var resp exchange.Response
	var h head
	n, proto, reason := parseResponse(data, &resp, &h, testLimits)
	if n == needMore || reason != ReasonNone {
		return m, nil, false
	}
	m = message{status: resp.Status, http10: proto == exchange.HTTP10, fields: ownFields(&resp.Header)}
	kind, length := responseFraming(method, resp.Status, &h)
	return m, h.named, ownBody(data, n, kind, length, &m)
}

func ownFields(fields *exchange.Fields) map[string][]string {
	all := make(map[string][]string)
	for _, field := range fields.All() {
		add(all, field.Name, field.Value)
	}
	return all
}

func ownBody(data []byte, n int, kind bodyKind, length int64, m *message) bool {
	in := inbound{buf: data, r: n, w: len(data)}
	in.start(kind, length)
	switch kind {
	case bodyLength:
		if int64(in.w-in.r) < length {
			return false
		}
		m.body = string(data[n : n+int(length)])
		in.r += int(length)
	case bodyChunked:
		if in.decodeAhead() != ReasonNone || !in.done {
			return false
		}
		m.body, m.trailer = string(in.ready), ownFields(&in.trailer)
	case bodyUntilClose:
		m.body, in.r = string(data[n:]), in.w
	default:
	}
	m.rest = string(data[in.r:in.w])
	return true
}

// endsHere are the fields that [isFraming] takes out.
func endsHere(name string) bool { return isFraming(exchange.LookupField(name)) }

func httpFields(header http.Header) map[string][]string {
	all := make(map[string][]string)
	for name, values := range header {
		for _, value := range values {
			if !endsHere(name) {
				add(all, name, value)
			}
		}
	}
	return all
}

// originForm is the target without "scheme://authority".
func originForm(method, target string) string {
	i := strings.Index(target, "://")
	if target[0] == '/' || i < 0 {
		return target
	}
	target = target[i+len("://"):]
	switch i := strings.IndexAny(target, "/?"); {
	case i < 0 && method == http.MethodOptions:
		return "*"
	case i < 0:
		return "/"
	case target[i] == '?':
		return "/" + target[i:]
	default:
		return target[i:]
	}
}

// httpRequest is what net/http reads.
func httpRequest(data []byte) (m message, err error) {
	r := bufio.NewReader(bytes.NewReader(data))
	req, err := http.ReadRequest(r)
	if err != nil {
		return m, err
	}
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return m, err
	}
	rest, err := io.ReadAll(r)
	return message{
		method: req.Method, target: originForm(req.Method, req.RequestURI), authority: req.Host, http10: !req.ProtoAtLeast(1, 1),
		fields: httpFields(req.Header), body: string(body), trailer: httpFields(req.Trailer), rest: string(rest),
	}, err
}

func httpResponse(data []byte, method string) (m message, err error) {
	r := bufio.NewReader(bytes.NewReader(data))
	resp, err := http.ReadResponse(r, &http.Request{Method: method})
	if err != nil {
		return m, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return m, err
	}
	rest, err := io.ReadAll(r)
	return message{
		status: resp.StatusCode, http10: !resp.ProtoAtLeast(1, 1),
		fields: httpFields(resp.Header), body: string(body), trailer: httpFields(resp.Trailer), rest: string(rest),
	}, err
}

// fastRequest is what fasthttp reads.
func fastRequest(data []byte) (m message, err error) {
	r := bufio.NewReaderSize(bytes.NewReader(data), 64<<10)
	var req fasthttp.Request
	if err = req.Header.Read(r); err != nil {
		return m, err
	}
	m = message{
		method: string(req.Header.Method()), target: originForm(string(req.Header.Method()), string(req.Header.RequestURI())),
		authority: string(req.Header.Host()), http10: !req.Header.IsHTTP11(), fields: make(map[string][]string),
	}
	if uri := string(req.Header.RequestURI()); uri[0] != '/' && uri != "*" {
		m.authority = string(req.URI().Host())
	}
	for name, value := range req.Header.All() {
		if !endsHere(string(name)) {
			add(m.fields, string(name), string(value))
		}
	}
	if err = req.ContinueReadBody(r, 1<<20, false); err != nil {
		return m, err
	}
	m.body = string(req.Body())
	rest, err := io.ReadAll(r)
	m.rest = string(rest)
	return m, err
}

func fastResponse(data []byte, method string) (m message, err error) {
	r := bufio.NewReaderSize(bytes.NewReader(data), 64<<10)
	var resp fasthttp.Response
	resp.SkipBody = method == http.MethodHead
	resp.Header.SetNoDefaultContentType(true)
	if err = resp.Header.Read(r); err != nil {
		return m, err
	}
	m = message{status: resp.StatusCode(), http10: string(resp.Header.Protocol()) == "HTTP/1.0", fields: make(map[string][]string)}
	for name, value := range resp.Header.All() {
		if !endsHere(string(name)) {
			add(m.fields, string(name), string(value))
		}
	}
	if !bodyless(method, m.status) {
		if err = resp.ReadBody(r, 1<<20); err != nil {
			return m, err
		}
		if resp.Header.ContentLength() == -1 {
			if err = resp.Header.ReadTrailer(r); err != nil {
				return m, err
			}
		}
	}
	m.body = string(resp.Body())
	rest, err := io.ReadAll(r)
	m.rest = string(rest)
	return m, err
}

// disagreement says what two readers read differently; empty when they agree.
// Fields that the message's Connection names are gone for us only.
func disagreement(own, other message, named []string) string {
	for _, name := range named {
		delete(other.fields, strings.ToLower(name))
	}
	switch {
	case own.method != other.method:
		return fmt.Sprintf("method %q and %q", own.method, other.method)
	case own.target != other.target:
		return fmt.Sprintf("target %q and %q", own.target, other.target)
	case !strings.EqualFold(own.authority, other.authority):
		return fmt.Sprintf("authority %q and %q", own.authority, other.authority)
	case own.status != other.status || own.http10 != other.http10:
		return fmt.Sprintf("status %d and %d, HTTP/1.0 %t and %t", own.status, other.status, own.http10, other.http10)
	case own.body != other.body:
		return fmt.Sprintf("body %q and %q", own.body, other.body)
	case own.rest != other.rest:
		return fmt.Sprintf("next message %q and %q", own.rest, other.rest)
	}
	for _, name := range slices.Sorted(maps.Keys(own.fields)) {
		if !slices.Equal(own.fields[name], other.fields[name]) {
			return fmt.Sprintf("%s: %q and %q", name, own.fields[name], other.fields[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(other.fields)) {
		if _, ok := own.fields[name]; !ok {
			return fmt.Sprintf("%s: none and %q", name, other.fields[name])
		}
	}
	for name, values := range own.trailer { // we drop more of them
		if other.trailer != nil && !slices.Equal(values, other.trailer[name]) {
			return fmt.Sprintf("trailer %s: %q and %q", name, values, other.trailer[name])
		}
	}
	return ""
}

// fastView makes of a message what fasthttp keeps of it. It knows some fields
// by heart: of those it keeps the last value, and it takes cookies apart.
func fastView(m message) message {
	m.fields = maps.Clone(m.fields)
	for _, name := range []string{"user-agent", "content-type", "server", "content-encoding"} {
		if values := m.fields[name]; len(values) > 0 {
			m.fields[name] = values[len(values)-1:]
			if m.fields[name][0] == "" {
				delete(m.fields, name)
			}
		}
	}
	delete(m.fields, "cookie")
	delete(m.fields, "set-cookie")
	m.trailer = nil // it gives them as fields
	return m
}

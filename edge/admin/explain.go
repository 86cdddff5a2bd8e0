package admin

import (
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/grayfed/grayfed/edge/api"
	"github.com/grayfed/grayfed/federation"
)

// Bounds of an explained request: those of a request that the edge would take.
const (
	maxExplainHeaders = 100
	maxExplainText    = 8 << 10
)

func (s *Server) postExplain(w http.ResponseWriter, c *call) error {
	data, err := readBody(w, c.Request)
	if err != nil {
		return err
	}
	if data == nil {
		return badBody(`found none, allowed a request such as {"path": "/"}`)
	}
	var request api.ExplainRequest
	wrong, err := decodeStrict(data, &request)
	if err != nil {
		return err
	}
	if request.Method == "" {
		request.Method = http.MethodGet
	}
	if wrong = append(wrong, remaining(wrong, validateExplain(&request))...); len(wrong) > 0 {
		p := invalidFields(wrong)
		p.Detail = ""
		return p
	}
	answer := s.opts.Explainer.Explain(request)
	if answer.Steps == nil {
		answer.Steps = []api.Step{}
	}
	if answer.Next == nil {
		answer.Next = []api.Candidate{}
	}
	s.replyJSON(w, http.StatusOK, answer)
	return nil
}

// validateExplain refuses what no codec would hand on. What makes a release tag
// well formed is for the explanation to say.
func validateExplain(r *api.ExplainRequest) error {
	var wrong federation.FieldErrors
	bad := func(field, found, allowed string) {
		wrong = append(wrong, federation.FieldError{Field: field, Found: found, Allowed: allowed})
	}
	if !isToken(r.Method) {
		bad("method", federation.Quote(r.Method), "a method such as GET")
	}
	if !isVisible(r.Path) || r.Path != "*" && !strings.HasPrefix(r.Path, "/") || strings.ContainsAny(r.Path, "?#") {
		bad("path", federation.Quote(r.Path), "a path that begins with /, percent-encoded, without query")
	}
	for _, text := range []struct{ field, value string }{{"host", r.Host}, {"query", r.Query}} {
		if text.value != "" && !isVisible(text.value) {
			bad(text.field, federation.Quote(text.value), fmt.Sprintf("printable ASCII without spaces, at most %d bytes", maxExplainText))
		}
	}
	if !isFieldValue(r.Tag) {
		bad("tag", federation.Quote(r.Tag), "what a header field can hold")
	}
	if r.ClientIP != "" {
		if ip, err := netip.ParseAddr(r.ClientIP); err != nil || ip.Zone() != "" {
			bad("client_ip", federation.Quote(r.ClientIP), "an IP address")
		}
	}
	if len(r.Headers) > maxExplainHeaders {
		bad("headers", fmt.Sprintf("%d fields", len(r.Headers)), fmt.Sprintf("at most %d", maxExplainHeaders))
		return wrong
	}
	seen := make(map[string]bool)
	for _, name := range slices.Sorted(maps.Keys(r.Headers)) {
		value, lower := r.Headers[name], strings.ToLower(name)
		switch {
		case !isToken(name):
			bad("headers", "name "+federation.Quote(name), "a header field's name")
		case seen[lower]:
			bad("headers."+shorten(lower), "the name again", "each name once, in any letter case")
		case lower == "x-release-tag" && r.Tag != "":
			bad("tag", federation.Quote(r.Tag)+" and the header x-release-tag", "one of the two")
		case !isFieldValue(value):
			bad("headers."+shorten(lower), federation.Quote(value), "what a header field can hold")
		}
		seen[lower] = true
	}
	if len(wrong) == 0 {
		return nil
	}
	return wrong
}

// isToken is the token of RFC 9110, 5.6.2, of a sane length.
func isToken(text string) bool {
	for i := range len(text) {
		c := text[i]
		if c <= ' ' || c > '~' || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return false
		}
	}
	return text != "" && len(text) <= federation.MaxNameLength
}

func isVisible(text string) bool {
	for i := range len(text) {
		if text[i] <= ' ' || text[i] > '~' {
			return false
		}
	}
	return text != "" && len(text) <= maxExplainText
}

// isFieldValue is RFC 9110, 5.5: no control characters but tab.
func isFieldValue(text string) bool {
	for i := range len(text) {
		if c := text[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return len(text) <= maxExplainText
}

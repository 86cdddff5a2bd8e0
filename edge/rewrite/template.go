package rewrite

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Variable is something of a request or its answer that a field's value can
// hold.
type Variable uint8

// The variables. Paths and hosts are the request's, before a rewrite.
const (
	VariableUnknown      Variable = iota
	VariableRequestID             // request_id: X-Request-ID as the upstream gets it
	VariableClientIP              // client_ip: whom the request is attributed to; "unknown" when nobody knows
	VariableMethod                // method: "GET"
	VariableScheme                // scheme: "http" or "https", as the client used it at this edge
	VariableHost                  // host: the host that was asked for, without port
	VariablePath                  // path: in normal form, without query
	VariableRoute                 // route: its id
	VariableService               // service: that of the route
	VariableRelease               // release: the one that the request is decided on; empty without one
	VariableZone                  // zone: this edge's
	VariableEdge                  // edge: this edge's id
	VariableInstance              // instance: that answered; responses only, empty when none did
	VariableInstanceZone          // instance_zone: its zone; responses only
	variableCount
)

var variableNames = [variableCount]string{
	VariableRequestID:    "request_id",
	VariableClientIP:     "client_ip",
	VariableMethod:       "method",
	VariableScheme:       "scheme",
	VariableHost:         "host",
	VariablePath:         "path",
	VariableRoute:        "route",
	VariableService:      "service",
	VariableRelease:      "release",
	VariableZone:         "zone",
	VariableEdge:         "edge",
	VariableInstance:     "instance",
	VariableInstanceZone: "instance_zone",
}

// String is the name that documents use.
func (v Variable) String() string {
	if v >= variableCount {
		return ""
	}
	return variableNames[v]
}

// variablesOf are those that a direction knows.
func variablesOf(response bool) []string {
	if response {
		return variableNames[VariableUnknown+1:]
	}
	return variableNames[VariableUnknown+1 : VariableInstance]
}

// Values gives a request's variables.
type Values interface {
	Value(Variable) string
}

// Template is a text with variables or captures in it.
type Template struct{ pieces []piece }

// piece is literal text and what follows it.
type piece struct {
	text string
	ref  int // a Variable, or the number of a capture; -1: nothing follows
}

// Constant is the text of a template that refers to nothing, and whether it is
// one.
func (t *Template) Constant() (string, bool) {
	switch {
	case len(t.pieces) == 0:
		return "", true
	case len(t.pieces) == 1 && t.pieces[0].ref < 0:
		return t.pieces[0].text, true
	}
	return "", false
}

// Append appends the text with the values put in.
func (t *Template) Append(dst []byte, values Values) []byte {
	for i := range t.pieces {
		p := &t.pieces[i]
		dst = append(dst, p.text...)
		if p.ref >= 0 {
			dst = append(dst, values.Value(Variable(p.ref))...)
		}
	}
	return dst
}

// appendCaptures appends the text with captures of path put in, where at are
// the captures' places as package regexp gives them.
func (t *Template) appendCaptures(dst []byte, path string, at []int) []byte {
	for i := range t.pieces {
		p := &t.pieces[i]
		dst = append(dst, p.text...)
		if p.ref >= 0 && at[2*p.ref] >= 0 {
			dst = append(dst, path[at[2*p.ref]:at[2*p.ref+1]]...)
		}
	}
	return dst
}

// fill is the text with the same in every place, for judging it beforehand.
func (t *Template) fill(with string) string {
	var text strings.Builder
	for _, p := range t.pieces {
		text.WriteString(p.text)
		if p.ref >= 0 {
			text.WriteString(with)
		}
	}
	return text.String()
}

var errDollar = errors.New("${name}, or $$ for a dollar sign")

// parseTemplate reads a text; lookup gives the number behind a name. The error
// says what is allowed.
func parseTemplate(text string, lookup func(name string) (int, error)) (Template, error) {
	var t Template
	var literal strings.Builder
	refs := 0
	for text != "" {
		dollar := strings.IndexByte(text, '$')
		if dollar < 0 {
			dollar = len(text)
		}
		literal.WriteString(text[:dollar])
		if text = text[dollar:]; text == "" {
			break
		}
		if strings.HasPrefix(text, "$$") {
			literal.WriteByte('$')
			text = text[2:]
			continue
		}
		name, rest, err := reference(text)
		if err != nil {
			return Template{}, err
		}
		ref, err := lookup(name)
		if err != nil {
			return Template{}, err
		}
		if refs++; refs > MaxReferences {
			return Template{}, fmt.Errorf("at most %d of ${name}", MaxReferences)
		}
		t.pieces = append(t.pieces, piece{literal.String(), ref})
		literal.Reset()
		text = rest
	}
	if literal.Len() > 0 {
		t.pieces = append(t.pieces, piece{literal.String(), -1})
	}
	return t, nil
}

// reference reads ${name} or $1 from the start of text.
func reference(text string) (name, rest string, err error) {
	if len(text) > 1 && '1' <= text[1] && text[1] <= '9' {
		return text[1:2], text[2:], nil
	}
	end := strings.IndexByte(text, '}')
	if len(text) < 2 || text[1] != '{' || end < 3 {
		return "", "", errDollar
	}
	return text[2:end], text[end+1:], nil
}

// parseValue reads a field's value.
func parseValue(text string, response bool) (Template, error) {
	known := variablesOf(response)
	return parseTemplate(text, func(name string) (int, error) {
		if i := slices.Index(known, name); i >= 0 {
			return i + 1, nil
		}
		return 0, fmt.Errorf("the variables %s, and $$ for a dollar sign", words(known))
	})
}

package rewrite

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/grayfed/grayfed/federation"
)

// Action is what is done to the fields of a name.
type Action uint8

// The actions.
const (
	ActionUnknown Action = iota
	ActionRemove
	ActionSet
	ActionAdd
)

// Change is one change of header fields. Value is empty with ActionRemove.
type Change struct {
	Action Action
	Name   string
	Value  Template
}

// Fields that no rule may touch, in lower case. Those that frame a message or
// end at a hop are the codecs' own; the others say who asks and where the
// request belongs, and are worth something only because nobody else writes
// them.
var (
	hopFields = [...]string{
		"connection", "content-length", "expect", "host", "http2-settings", "keep-alive", "proxy-authenticate",
		"proxy-authentication-info", "proxy-authorization", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
	}
	ownFields = [...]string{
		"forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-forwarded-proto", "x-gray-decision",
		"x-gray-explain", "x-gray-hop", "x-ratelimit-remaining", "x-real-ip", "x-release-tag", "x-request-id",
	}
)

func compileHeaders(wrong *problems, h *Headers, response bool) []Change {
	field := "request_headers"
	if response {
		field = "response_headers"
	}
	var changes []Change
	seen := make(map[string]bool)
	judge := func(at, name string) {
		if allowed := judgeName(name); allowed != "" {
			wrong.add(at, "name "+federation.Quote(name), allowed)
		} else if seen[strings.ToLower(name)] {
			wrong.add(at, "name "+federation.Quote(name)+" again", "each name once in set, add and remove together (set replaces)")
		}
		seen[strings.ToLower(name)] = true
	}
	bounded := func(at string, n int) bool {
		if n > MaxHeaders {
			wrong.add(at, strconv.Itoa(n)+" fields", fmt.Sprintf("at most %d", MaxHeaders))
		}
		return n <= MaxHeaders
	}
	if bounded(field+".remove", len(h.Remove)) {
		for i, name := range h.Remove {
			judge(fmt.Sprintf("%s.remove[%d]", field, i), name)
			changes = append(changes, Change{Action: ActionRemove, Name: name})
		}
	}
	for _, list := range []struct {
		at      string
		action  Action
		headers []Header
	}{{field + ".set", ActionSet, h.Set}, {field + ".add", ActionAdd, h.Add}} {
		if !bounded(list.at, len(list.headers)) {
			continue
		}
		for _, header := range list.headers {
			at := join(list.at, header.Name)
			judge(at, header.Name)
			change := Change{Action: list.action, Name: header.Name}
			var err error
			switch {
			case !validText(header.Value) || header.Value == "" || len(header.Value) > MaxValueLength:
				wrong.add(at, federation.Quote(header.Value),
					fmt.Sprintf("1 to %d bytes of printable ASCII, no space at either end", MaxValueLength))
			default:
				if change.Value, err = parseValue(header.Value, response); err != nil {
					wrong.add(at, federation.Quote(header.Value), err.Error())
				}
			}
			changes = append(changes, change)
		}
	}
	return changes
}

// judgeName says what is allowed instead of a name, empty when it is good.
func judgeName(name string) string {
	if !validToken(name) || len(name) > MaxNameLength {
		return fmt.Sprintf("a field's name: 1 to %d letters, digits, or any of !#$%%&'*+-.^_`|~", MaxNameLength)
	}
	folded := fold(name)
	switch {
	case slices.Contains(hopFields[:], folded):
		return "no field that frames a message or belongs to one connection"
	case slices.Contains(ownFields[:], folded):
		return "no field that the edge itself answers for"
	}
	return ""
}

// fold is a name as servers read it that make variables of fields: without
// letter case, and every separator the same.
func fold(name string) string {
	folded := []byte(strings.ToLower(name))
	for i, c := range folded {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			folded[i] = '-'
		}
	}
	return string(folded)
}

// validToken is RFC 9110, section 5.6.2.
func validToken(text string) bool {
	for i := range len(text) {
		c := text[i]
		alphanumeric := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !alphanumeric && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return text != ""
}

func validText(text string) bool {
	for i := range len(text) {
		if text[i] < ' ' || text[i] > '~' {
			return false
		}
	}
	return strings.TrimSpace(text) == text
}

// Safe reports whether a value, variables put in, can stand in a header: no
// control character but a tab (RFC 9110, section 5.5).
func Safe(value []byte) bool {
	for _, c := range value {
		if c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

package gateway

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/grayfed/grayfed/edge/exchange"
)

// portOf is the port that a client means by an authority and a scheme.
func portOf(authority, scheme string) string {
	if colon := strings.LastIndexByte(authority, ':'); colon >= 0 && strings.IndexByte(authority[colon:], ']') < 0 {
		if port := authority[colon+1:]; validPort(port) {
			return port
		}
	}
	if scheme == "https" {
		return "443"
	}
	return "80"
}

func validPort(text string) bool {
	n, err := strconv.ParseUint(text, 10, 16)
	return err == nil && n > 0 && text[0] != '+'
}

// setPort keeps what a trusted peer says of the port, when it is well formed
// and there once, and says else what follows from host and scheme.
func (c *call) setPort(header *exchange.Fields, twice int) {
	said, _ := header.Get(exchange.FieldXForwardedPort)
	if c.trusted && twice&metPort == 0 && said != "" && validPort(said) {
		return
	}
	host, _ := header.Get(exchange.FieldXForwardedHost)
	proto, _ := header.Get(exchange.FieldXForwardedProto)
	header.Set(exchange.FieldXForwardedPort, portOf(host, proto))
}

// setForwarded writes Forwarded (RFC 7239) where the edge is to: this hop's
// element, behind what a trusted peer says. One that only says X-Forwarded-For
// has that chain put into elements (section 7.4), since an upstream that reads
// Forwarded would take the proxy for the client otherwise.
//
// "by" is this edge's id as an obfuscated identifier (section 6.3): addresses
// of the inside are nobody's business.
func (c *call) setForwarded(header *exchange.Fields, met int) {
	b := c.element[:0]
	if c.trusted {
		if met&metForwarded != 0 {
			b = appendElements(b, header)
		}
		if len(b) == 0 && met&metFor != 0 {
			b = appendChain(b, view(c.forwarded[:c.chain]))
		}
	}
	b = append(b, "for="...)
	b = appendNode(b, c.peerText)
	if c.g.opts.Edge != "" {
		b = append(b, ";by=_"...)
		b = append(b, c.g.opts.Edge...)
	}
	if host := c.x.Request.Authority; host != "" {
		b = append(b, ";host="...)
		b = appendValue(b, host)
	}
	b = append(b, ";proto="...)
	c.element = append(b, c.x.Request.Scheme...)
	header.Set(exchange.FieldForwarded, view(c.element))
}

// appendElements joins the Forwarded fields that are there, in order, nothing
// when one of them is such that it could swallow what comes behind it.
func appendElements(b []byte, header *exchange.Fields) []byte {
	start := len(b)
	for _, field := range header.All() {
		if field.ID != exchange.FieldForwarded || field.Value == "" {
			continue
		}
		if !quotesClosed(field.Value) {
			return b[:start]
		}
		b = append(append(b, field.Value...), ", "...)
	}
	return b
}

// quotesClosed reports whether every quoted string in a value ends in it.
func quotesClosed(value string) bool {
	quoted := false
	for i := 0; i < len(value); i++ {
		switch {
		case value[i] == '"':
			quoted = !quoted
		case quoted && value[i] == '\\':
			i++
		}
	}
	return !quoted
}

// appendChain writes an element for each entry of an X-Forwarded-For.
func appendChain(b []byte, chain string) []byte {
	for chain != "" {
		var entry string
		entry, chain, _ = strings.Cut(chain, ",")
		if entry = strings.Trim(entry, " \t"); entry != "" {
			b = append(appendNode(append(b, "for="...), entry), ", "...)
		}
	}
	return b
}

// appendNode writes an address; one of IPv6 in brackets and therefore quoted,
// anything else as unknown (RFC 7239, section 6).
func appendNode(b []byte, text string) []byte {
	addr, err := netip.ParseAddr(text)
	switch {
	case err != nil || addr.Zone() != "":
		return append(b, "unknown"...)
	case addr.Is4():
		return append(b, text...)
	}
	return append(append(append(b, `"[`...), text...), `]"`...)
}

// appendValue writes a token as it is, anything else as a quoted string.
func appendValue(b []byte, text string) []byte {
	token := true
	for i := range len(text) {
		c := text[i]
		token = token && ('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~!#$%&'*+^`|", c) >= 0)
	}
	if token {
		return append(b, text...)
	}
	b = append(b, '"')
	for i := range len(text) {
		if text[i] == '"' || text[i] == '\\' {
			b = append(b, '\\')
		}
		b = append(b, text[i])
	}
	return append(b, '"')
}

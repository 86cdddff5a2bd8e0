package rewrite

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/grayfed/grayfed/federation"
)

// ParseHost reads the word or name that a document says.
func ParseHost(text string) Host {
	if text == hostKeepWord {
		return HostKeep
	}
	return Host(text)
}

// String is what documents say.
func (h Host) String() string {
	if h == HostKeep {
		return hostKeepWord
	}
	return string(h)
}

func validateHost(wrong *problems, h Host) {
	if h != HostKeep && h != HostUpstream && !validAuthority(string(h)) {
		wrong.add("rewrite.host", federation.Quote(string(h)),
			`keep, upstream, or a fixed host name or address with optional port ("api.example.com:8080", "[2001:db8::1]")`)
	}
}

// validAuthority takes a DNS name or an IP address (IPv6 in brackets), with or
// without a port.
func validAuthority(text string) bool {
	host := text
	if colon := strings.LastIndexByte(text, ':'); colon >= 0 && !strings.Contains(text[colon:], "]") {
		port := text[colon+1:]
		host = text[:colon]
		if number, err := strconv.ParseUint(port, 10, 16); err != nil || number == 0 || strconv.FormatUint(number, 10) != port {
			return false
		}
	}
	if inner, v6 := strings.CutPrefix(host, "["); v6 {
		inner, closed := strings.CutSuffix(inner, "]")
		addr, err := netip.ParseAddr(inner)
		return closed && err == nil && addr.Is6() && addr.Zone() == ""
	}
	if len(host) == 0 || len(host) > 253 {
		return false
	}
	for label := range strings.SplitSeq(host, ".") {
		if len(label) == 0 || len(label) > 63 {
			return false
		}
		for i := range len(label) {
			c := label[i] | 0x20
			if (c < 'a' || c > 'z') && (label[i] < '0' || label[i] > '9') && label[i] != '-' && label[i] != '_' {
				return false
			}
		}
	}
	return true
}

package listen

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/grayfed/grayfed/edge/exchange"
)

// The PROXY protocol, versions 1 and 2:
// https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt
const (
	proxyText      = "PROXY "
	proxySignature = "\r\n\r\n\x00\r\nQUIT\n"
	// maxProxyText is the longest header of version 1, its line end included.
	maxProxyText = 107
	// proxyFixed is the length of version 2 up to where its own length counts
	// from.
	proxyFixed = 16
	// maxProxyBinary bounds a header of version 2: real ones, with a TLS
	// client's names in it, stay below a tenth.
	maxProxyBinary = 4096
)

var (
	errUntrusted = errors.New("peer may not send a PROXY header")
	errMalformed = errors.New("malformed PROXY header")
)

// malformed says what is wrong with a header.
func malformed(what string) error { return fmt.Errorf("%w: %s", errMalformed, what) }

// proxied are the addresses that a header names; the zero value, where it
// names none, leaves those of the connection.
type proxied struct {
	source, destination netip.AddrPort
}

// readProxy reads a PROXY header, nothing behind it, and puts the addresses
// that it names into info.
func (l *Listener) readProxy(conn net.Conn, info *exchange.Conn) error {
	peer := info.Remote.Addr()
	if !slices.ContainsFunc(l.opts.ProxyFrom, func(p netip.Prefix) bool { return p.Contains(peer) }) {
		return fmt.Errorf("%w: %s", errUntrusted, peer)
	}
	var begin [maxProxyText]byte
	var length int
	var failure error
	_, err := peek(conn, begin[:], func(seen []byte) bool {
		length, failure = proxyLength(seen)
		return length > 0 || failure != nil
	})
	if err = errors.Join(err, failure); err != nil {
		return fmt.Errorf("read PROXY header: %w", err)
	}
	header := make([]byte, length)
	if _, err := io.ReadFull(conn, header); err != nil {
		return fmt.Errorf("read PROXY header: %w", err)
	}
	named, err := parseProxy(header)
	if err != nil {
		return err
	}
	if named.source.IsValid() {
		info.Remote, info.Local = named.source, named.destination
	}
	return nil
}

// proxyLength returns the length of the header that begins with seen, 0 while
// more is needed to tell.
func proxyLength(seen []byte) (int, error) {
	switch {
	case hasBegun(seen, proxySignature):
		if len(seen) < proxyFixed {
			return 0, nil
		}
		length := proxyFixed + int(binary.BigEndian.Uint16(seen[proxyFixed-2:]))
		if length > maxProxyBinary {
			return 0, malformed("too long")
		}
		return length, nil
	case hasBegun(seen, proxyText):
		if end := bytes.IndexByte(seen[:min(len(seen), maxProxyText)], '\n'); end >= 0 {
			return end + 1, nil
		}
		if len(seen) >= maxProxyText {
			return 0, malformed("too long")
		}
		return 0, nil
	default:
		return 0, malformed("no header")
	}
}

// hasBegun reports whether seen is text as far as both go.
func hasBegun(seen []byte, text string) bool {
	n := min(len(seen), len(text))
	return string(seen[:n]) == text[:n]
}

// parseProxy reads a whole header.
func parseProxy(header []byte) (proxied, error) {
	if bytes.HasPrefix(header, []byte(proxySignature)) {
		return parseProxyBinary(header)
	}
	return parseProxyText(string(header))
}

func parseProxyText(header string) (proxied, error) {
	line, ok := strings.CutSuffix(header, "\r\n")
	if !ok || strings.ContainsAny(line, "\r\n") {
		return proxied{}, malformed("no line end")
	}
	rest, ok := strings.CutPrefix(line, proxyText)
	if !ok {
		return proxied{}, malformed("no header")
	}
	if rest == "UNKNOWN" || strings.HasPrefix(rest, "UNKNOWN ") {
		return proxied{}, nil // what follows is to be ignored
	}
	fields := strings.Split(rest, " ")
	if len(fields) != 5 || fields[0] != "TCP4" && fields[0] != "TCP6" {
		return proxied{}, malformed("not a family, two addresses and two ports")
	}
	source, err := textAddress(fields[0], fields[1], fields[3])
	if err != nil {
		return proxied{}, err
	}
	destination, err := textAddress(fields[0], fields[2], fields[4])
	if err != nil {
		return proxied{}, err
	}
	return proxied{source, destination}, nil
}

func textAddress(family, address, port string) (netip.AddrPort, error) {
	ip, err := netip.ParseAddr(address)
	if err != nil || ip.Zone() != "" || ip.Is4() != (family == "TCP4") {
		return netip.AddrPort{}, malformed("address")
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil || strconv.FormatUint(number, 10) != port {
		return netip.AddrPort{}, malformed("port")
	}
	return netip.AddrPortFrom(ip.Unmap(), uint16(number)), nil
}

func parseProxyBinary(header []byte) (proxied, error) {
	if len(header) < proxyFixed || len(header) != proxyFixed+int(binary.BigEndian.Uint16(header[proxyFixed-2:])) {
		return proxied{}, malformed("length")
	}
	versionAndCommand, familyAndTransport, rest := header[12], header[13], header[proxyFixed:]
	if versionAndCommand>>4 != 2 {
		return proxied{}, malformed("version")
	}
	switch versionAndCommand & 0xf {
	case 0: // LOCAL: the proxy itself, for instance its health check
		return proxied{}, nil
	case 1: // PROXY
	default:
		return proxied{}, malformed("command")
	}
	size := 0 // of an IP address
	addresses := 0
	switch familyAndTransport {
	case 0x00: // unspecified
	case 0x11:
		size, addresses = 4, 12
	case 0x21:
		size, addresses = 16, 36
	case 0x31: // a Unix socket, which has no address here
		addresses = 216
	default: // unknown, or not of a stream
		return proxied{}, malformed("family or transport")
	}
	if len(rest) < addresses {
		return proxied{}, malformed("addresses cut short")
	}
	if familyAndTransport != 0x00 && !wholeExtensions(rest[addresses:]) {
		return proxied{}, malformed("extensions")
	}
	if size == 0 {
		return proxied{}, nil
	}
	address := func(at, port int) netip.AddrPort {
		ip, _ := netip.AddrFromSlice(rest[at : at+size]) // size is one of an address
		return netip.AddrPortFrom(ip.Unmap(), binary.BigEndian.Uint16(rest[port:]))
	}
	return proxied{address(0, 2*size), address(size, 2*size+2)}, nil
}

// wholeExtensions reports whether b is a list of type, length and value. What
// they say is not used.
func wholeExtensions(b []byte) bool {
	for len(b) > 0 {
		if len(b) < 3 {
			return false
		}
		length := 3 + int(binary.BigEndian.Uint16(b[1:]))
		if len(b) < length {
			return false
		}
		b = b[length:]
	}
	return true
}

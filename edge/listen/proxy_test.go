package listen

import (
	"crypto/tls"
	"encoding/binary"
	"net"
	"net/netip"
	"strings"
	"testing"
)

// binaryHeader is a header of version 2.
func binaryHeader(versionAndCommand, family byte, rest string) string {
	header := append([]byte(proxySignature), versionAndCommand, family)
	header = binary.BigEndian.AppendUint16(header, uint16(len(rest)))
	return string(header) + rest
}

const (
	four = "\xc0\x00\x02\x01\xc6\x33\x64\x02\x12\x34\x01\xbb" // 192.0.2.1:4660 to 198.51.100.2:443
	six  = "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01" +
		"\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x12\x34\x01\xbb"
)

func TestProxyHeaders(t *testing.T) {
	const own = "own" // the addresses of the connection
	for _, c := range []struct {
		header, source, destination string // no source: refused
	}{
		{"PROXY TCP4 192.0.2.1 198.51.100.2 4660 443\r\n", "192.0.2.1:4660", "198.51.100.2:443"},
		{"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", "255.255.255.255:65535", "255.255.255.255:65535"},
		{"PROXY TCP4 192.0.2.1 198.51.100.2 0 0\r\n", "192.0.2.1:0", "198.51.100.2:0"},
		{"PROXY TCP6 2001:db8::1 2001:db8::2 4660 443\r\n", "[2001:db8::1]:4660", "[2001:db8::2]:443"},
		{"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:198.51.100.2 4660 443\r\n", "192.0.2.1:4660", "198.51.100.2:443"},
		{"PROXY UNKNOWN\r\n", own, own},
		{"PROXY UNKNOWN ffff:f...f:ffff what ever 1 2\r\n", own, own},
		{"PROXY UNKNOWN " + strings.Repeat("x", maxProxyText-len("PROXY UNKNOWN \r\n")) + "\r\n", own, own},
		{"PROXY UNKNOWN " + strings.Repeat("x", maxProxyText-len("PROXY UNKNOWN \r\n")+1) + "\r\n", "", ""},
		{"PROXY UNKNOWNS\r\n", "", ""},
		{"PROXY TCP4 192.0.2.1 198.51.100.2 4660 443\n", "", ""},
		{"PROXY TCP4 192.0.2.1\r198.51.100.2 4660 443\r\n", "", ""},
		{"PROXY TCP4  192.0.2.1 198.51.100.2 4660 443\r\n", "", ""},
		{"PROXY TCP4 192.0.2.1 198.51.100.2 4660 443 \r\n", "", ""},
		{"PROXY TCP4 192.0.2.1 198.51.100.2 4660\r\n", "", ""},
		{"PROXY TCP4 192.0.2.01 198.51.100.2 4660 443\r\n", "", ""},
		{"PROXY TCP4 192.0.2.1 198.51.100.2 04660 443\r\n", "", ""},
		{"PROXY TCP4 192.0.2.1 198.51.100.2 +1 443\r\n", "", ""},
		{"PROXY TCP4 192.0.2.1 198.51.100.2 65536 443\r\n", "", ""},
		{"PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n", "", ""},
		{"PROXY TCP6 192.0.2.1 198.51.100.2 1 2\r\n", "", ""},
		{"PROXY TCP6 fe80::1%eth0 2001:db8::2 1 2\r\n", "", ""},
		{"PROXY TCP5 192.0.2.1 198.51.100.2 1 2\r\n", "", ""},
		{"PROXY tcp4 192.0.2.1 198.51.100.2 1 2\r\n", "", ""},
		{"PROXY\r\n", "", ""},
		{"proxy TCP4 192.0.2.1 198.51.100.2 1 2\r\n", "", ""},
		{"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "", ""},
		{"\x16\x03\x01\x00\x05", "", ""},

		{binaryHeader(0x21, 0x11, four), "192.0.2.1:4660", "198.51.100.2:443"},
		{binaryHeader(0x21, 0x21, six), "[2001:db8::1]:4660", "[2001:db8::2]:443"},
		{binaryHeader(0x21, 0x11, four+"\x04\x00\x00\x03\x00\x04\x01\x02\x03\x04"), "192.0.2.1:4660", "198.51.100.2:443"},
		{binaryHeader(0x21, 0x11, four+"\x04\x0f\xe1"+strings.Repeat("x", maxProxyBinary-31)), "192.0.2.1:4660", "198.51.100.2:443"},
		{binaryHeader(0x20, 0x00, ""), own, own},
		{binaryHeader(0x20, 0x11, four), own, own},
		{binaryHeader(0x20, 0xff, "anything"), own, own},
		{binaryHeader(0x21, 0x00, "anything"), own, own},
		{binaryHeader(0x21, 0x31, strings.Repeat("/", 216)), own, own},
		{binaryHeader(0x21, 0x11, four[:11]), "", ""},
		{binaryHeader(0x21, 0x21, six[:35]), "", ""},
		{binaryHeader(0x21, 0x21, four), "", ""},
		{binaryHeader(0x21, 0x31, four), "", ""},
		{binaryHeader(0x21, 0x12, four), "", ""},
		{binaryHeader(0x21, 0x41, four), "", ""},
		{binaryHeader(0x22, 0x11, four), "", ""},
		{binaryHeader(0x11, 0x11, four), "", ""},
		{binaryHeader(0x31, 0x11, four), "", ""},
		{binaryHeader(0x21, 0x11, four+"\x04\x00"), "", ""},
		{binaryHeader(0x21, 0x11, four+"\x04\x00\x02\x00"), "", ""},
		{binaryHeader(0x21, 0x11, four+"\x04\x0f\xe2"+strings.Repeat("x", maxProxyBinary-30)), "", ""},
	} {
		for _, whole := range []bool{true, false} {
			r := newRig(t, func(o *Options) { o.ProxyFrom = prefixes("192.0.2.0/24", "127.0.0.0/8") })
			conn := r.dial()
			const request = "GET / HTTP/1.1\r\n\r\n"
			if c.source == "" {
				r.send(conn, c.header)
				_ = conn.(*net.TCPConn).CloseWrite() // the end must not be what it is refused for
				r.refused(c.header, conn, "proxy", "malformed")
				break
			}
			if whole {
				r.send(conn, c.header+request)
			} else {
				r.sendBytes(conn, c.header[:min(len(c.header), 300)])
				r.send(conn, c.header[min(len(c.header), 300):]+request)
			}
			source, destination := c.source, c.destination
			if source == own {
				source, destination = conn.LocalAddr().String(), conn.RemoteAddr().String()
			}
			got, err := r.hear(conn, request)
			if err != nil || got.remote != source || got.local != destination || got.codec != "h1" || !got.bare {
				t.Errorf("%q: %+v, %v", c.header, got, err)
			}
		}
	}
}

func TestWhatFollowsAProxyHeader(t *testing.T) {
	a := newAuthority(t)
	const header = "PROXY TCP4 192.0.2.1 198.51.100.2 4660 443\r\n"
	cleartext := newRig(t, func(o *Options) { o.ProxyFrom = prefixes("127.0.0.0/8") })
	secure := newRig(t, func(o *Options) { o.ProxyFrom, o.TLS = prefixes("127.0.0.0/8"), a.store(t, nil).Config() })

	conn := cleartext.dial()
	cleartext.send(conn, header+preface)
	if got, err := cleartext.hear(conn, preface); err != nil || got.codec != "h2" || got.remote != "192.0.2.1:4660" {
		t.Errorf("HTTP/2: %+v, %v", got, err)
	}
	// A second header is the client's, and no header.
	conn = cleartext.dial()
	cleartext.send(conn, header+"PROXY TCP4 203.0.113.9 203.0.113.9 1 1\r\n")
	if got, err := cleartext.hear(conn, "PROXY TCP4 203.0.113.9 203.0.113.9 1 1\r\n"); err != nil || got.remote != "192.0.2.1:4660" {
		t.Errorf("two headers: %+v, %v", got, err)
	}
	conn = secure.dial()
	secure.send(conn, header)
	inner := tls.Client(conn, a.client("h2"))
	secure.send(inner, "x")
	if got, err := secure.hear(inner, "x"); err != nil || got.codec != "h2" || got.remote != "192.0.2.1:4660" || got.protocol != "tls:h2:0" {
		t.Errorf("TLS: %+v, %v", got, err)
	}
	// Nor is one inside TLS.
	conn = secure.dial()
	secure.send(conn, header)
	inner = tls.Client(conn, a.client())
	secure.send(inner, "PROXY TCP4 203.0.113.9 203.0.113.9 1 1\r\n")
	if got, err := secure.hear(inner, "PROXY TCP4 203.0.113.9 203.0.113.9 1 1\r\n"); err != nil || got.remote != "192.0.2.1:4660" {
		t.Errorf("a header within TLS: %+v, %v", got, err)
	}
	// TLS without the header that must come first.
	raw := secure.dial()
	if err := tls.Client(raw, a.client()).Handshake(); err == nil {
		t.Error("a connection without a header is served")
	}
	secure.refused("no header", raw, "proxy", "malformed")
}

// TestSpoofedProxyHeaders: who is not to be believed is not served, and where
// the protocol is off nothing reads a header.
func TestSpoofedProxyHeaders(t *testing.T) {
	for _, header := range []string{"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", binaryHeader(0x21, 0x11, four), "GET / HTTP/1.1\r\n\r\n"} {
		strict := newRig(t, func(o *Options) { o.ProxyFrom = prefixes("192.0.2.0/24", "::1/128") })
		conn := strict.dial()
		strict.send(conn, header)
		_ = conn.(*net.TCPConn).CloseWrite() // what matters is the answer
		strict.refused(header, conn, "proxy", "untrusted")

		off := newRig(t, func(*Options) {})
		conn = off.dial()
		off.send(conn, header)
		if got, err := off.hear(conn, header); err != nil || got.remote != conn.LocalAddr().String() || got.codec != "h1" {
			t.Errorf("%q: %+v, %v", header, got, err)
		}
	}
}

// FuzzProxy holds that the verdict on a header does not depend on the pieces
// in which it arrives, and that addresses are what was sent.
func FuzzProxy(f *testing.F) {
	for _, seed := range []string{
		"PROXY TCP4 192.0.2.1 198.51.100.2 4660 443\r\nGET", "PROXY TCP6 2001:db8::1 2001:db8::2 4660 443\r\n", "PROXY UNKNOWN\r\n",
		binaryHeader(0x21, 0x11, four), binaryHeader(0x21, 0x21, six), binaryHeader(0x20, 0, ""), binaryHeader(0x21, 0x11, four+"\x04\x00\x00"),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		length, err := proxyLength(data)
		for i := range data {
			early, earlyErr := proxyLength(data[:i])
			switch {
			case earlyErr != nil && err == nil:
				t.Fatalf("%q is refused, %q is not", data[:i], data)
			case early > 0 && (err != nil || early != length):
				t.Fatalf("%q is %d long, %q is %d: %v", data[:i], early, data, length, err)
			}
		}
		if err != nil || length == 0 || length > len(data) {
			return
		}
		if length > maxProxyBinary {
			t.Fatalf("%d bytes are read", length)
		}
		named, err := parseProxy(data[:length])
		if err != nil {
			if named.source.IsValid() {
				t.Fatalf("%q names %s though it is refused", data[:length], named.source)
			}
			return
		}
		if named.source.IsValid() != named.destination.IsValid() {
			t.Fatalf("%q names half of the addresses: %+v", data[:length], named)
		}
		for _, address := range []netip.AddrPort{named.source, named.destination} {
			if address.Addr().Is4In6() || address.Addr().Zone() != "" {
				t.Fatalf("%q names %s", data[:length], address)
			}
		}
	})
}

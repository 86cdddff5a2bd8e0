package config

import (
	"net"
	"net/netip"
	"strconv"
)

// parseListenAddress reads "ip:port", "localhost:port" or ":port"; the address
// is unspecified for ":port".
func parseListenAddress(address string) (netip.AddrPort, bool) {
	host, portText, err := net.SplitHostPort(address)
	if err != nil {
		return netip.AddrPort{}, false
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return netip.AddrPort{}, false
	}
	var ip netip.Addr
	switch host {
	case "":
		ip = netip.IPv6Unspecified()
	case "localhost":
		ip = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	default:
		if ip, err = netip.ParseAddr(host); err != nil || ip.Zone() != "" {
			return netip.AddrPort{}, false
		}
	}
	return netip.AddrPortFrom(ip.Unmap(), uint16(port)), true
}

// addressOnLoopback reports whether only this machine reaches a listener.
func addressOnLoopback(address string) bool {
	parsed, ok := parseListenAddress(address)
	return ok && parsed.Addr().IsLoopback()
}

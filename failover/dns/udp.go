package dns

import (
	"context"
	"errors"
	"net"
	"net/netip"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// receiveBuffer is asked of the system, which may grant less: what comes while
// all hands are full waits there.
const receiveBuffer = 1 << 20

func listenUDP(ctx context.Context, address netip.AddrPort) (*net.UDPConn, error) {
	var config net.ListenConfig
	conn, err := config.ListenPacket(ctx, "udp", address.String())
	if err != nil {
		return nil, err
	}
	udp := conn.(*net.UDPConn)
	_ = udp.SetReadBuffer(receiveBuffer)
	if !address.Addr().IsUnspecified() {
		return udp, nil
	}
	// A host may have many addresses, and an answer must come from the one
	// that was asked. A socket has one of the families or both.
	err4 := ipv4.NewPacketConn(udp).SetControlMessage(ipv4.FlagDst, true)
	err6 := ipv6.NewPacketConn(udp).SetControlMessage(ipv6.FlagDst, true)
	if err4 != nil && err6 != nil {
		return nil, errors.Join(err4, err6, udp.Close())
	}
	return udp, nil
}

// serveUDP answers one message after the other, without a goroutine or memory
// for each: a flood finds the system's buffer full and nothing grows.
func (s *Server) serveUDP(ctx context.Context) {
	in := make([]byte, maxQuery)
	out := make([]byte, 0, maxUDP)
	control := make([]byte, max(len(ipv4.NewControlMessage(ipv4.FlagDst)), len(ipv6.NewControlMessage(ipv6.FlagDst))))
	for {
		n, controls, _, from, err := s.udp.ReadMsgUDPAddrPort(in, control)
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			s.metrics.dropped(dropRead)
			if !rest(ctx) {
				return
			}
			continue
		}
		out := s.reply(out, in[:n], true)
		if out == nil {
			continue
		}
		if _, _, err := s.udp.WriteMsgUDPAddrPort(out, source(control[:controls]), from); err != nil {
			s.metrics.dropped(dropWrite)
		}
	}
}

// source turns what the system said about a message that came into what makes
// it send from where that one went to; nothing into nothing.
func source(control []byte) []byte {
	if len(control) == 0 {
		return nil
	}
	var six ipv6.ControlMessage
	if six.Parse(control) == nil && six.Dst != nil && six.Dst.To4() == nil {
		return (&ipv6.ControlMessage{Src: six.Dst}).Marshal()
	}
	var four ipv4.ControlMessage
	if four.Parse(control) == nil && four.Dst != nil {
		return (&ipv4.ControlMessage{Src: four.Dst}).Marshal()
	}
	if dst := six.Dst.To4(); dst != nil { // IPv4 on a socket of both
		return (&ipv4.ControlMessage{Src: dst}).Marshal()
	}
	return nil
}

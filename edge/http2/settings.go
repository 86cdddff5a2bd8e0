package http2

import (
	"encoding/binary"

	"golang.org/x/net/http2"
)

// settingsFrame takes the peer's settings: RFC 9113, section 6.5.
func (l *link) settingsFrame(h frameHeader, p []byte) *fault {
	ack := h.flags.Has(http2.FlagSettingsAck)
	switch {
	case h.stream != 0:
		return faultFrame
	case len(p)%6 != 0 || (ack && len(p) > 0):
		return faultFrameSize
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if bad := l.spend(1 + len(p)/60); bad != nil {
		return bad
	}
	if ack {
		return nil
	}
	l.settled = true
	for ; len(p) > 0; p = p[6:] {
		s := http2.Setting{ID: http2.SettingID(binary.BigEndian.Uint16(p)), Val: binary.BigEndian.Uint32(p[2:])}
		if bad := l.setting(s); bad != nil {
			return bad
		}
	}
	out := appendFrameHeader(l.room(), 0, http2.FrameSettings, http2.FlagSettingsAck, 0)
	return l.answer(out)
}

// setting applies one. mu is held.
func (l *link) setting(s http2.Setting) *fault {
	switch s.ID {
	case http2.SettingEnablePush:
		if s.Val > 1 || (s.Val == 1 && l.opts.client) {
			return faultFrame
		}
	case http2.SettingHeaderTableSize:
		l.peer.shrunk = l.peer.shrunk || s.Val < l.peer.table
		l.peer.table = s.Val
	case http2.SettingMaxConcurrentStreams:
		l.peer.streams = s.Val
	case http2.SettingInitialWindowSize:
		if s.Val > maxWindow {
			return faultFlow
		}
		more := int64(s.Val) - l.peer.window
		l.peer.window = int64(s.Val)
		for _, st := range l.streams {
			if st.sendWindow += more; st.sendWindow > maxWindow {
				return faultFlow
			}
			wake(st.writable)
		}
	case http2.SettingMaxFrameSize:
		if s.Val < 16<<10 || s.Val > 1<<24-1 {
			return faultFrame
		}
	case http2.SettingEnableConnectProtocol:
		if s.Val > 1 || (s.Val == 0 && l.peer.connect) {
			return faultFrame
		}
		l.peer.connect = s.Val == 1
	default:
	}
	return nil
}

// What the data of a PING that was sent stands for.
var (
	pingHealth = [8]byte{'h', 'e', 'a', 'l', 't', 'h'}
	pingDrain  = [8]byte{'d', 'r', 'a', 'i', 'n'}
)

func (l *link) pingFrame(h frameHeader, p []byte) *fault {
	switch {
	case h.stream != 0:
		return faultFrame
	case len(p) != 8:
		return faultFrameSize
	}
	data := [8]byte(p)
	l.mu.Lock()
	defer l.mu.Unlock()
	if !h.flags.Has(http2.FlagPingAck) {
		if bad := l.spend(1); bad != nil {
			return bad
		}
		return l.answer(appendPing(l.room(), http2.FlagPingAck, data))
	}
	switch {
	case data == pingHealth && l.pinged != 0:
		l.pinged = 0
	case data == pingDrain && l.drainUntil != 0:
		l.drainUntil = 1 // it is over at the next look
	}
	return l.spend(1)
}

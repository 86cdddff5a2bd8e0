package http2

import (
	"encoding/binary"
	"errors"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/grayfed/grayfed/edge/exchange"
)

// maxContinuations bounds the frames of one header section, beside those that as
// many bytes as it may have fill.
const maxContinuations = 32

var (
	faultFrame     = &fault{http2.ErrCodeProtocol, ReasonFrame}
	faultFrameSize = &fault{http2.ErrCodeFrameSize, ReasonFrameSize}
	faultFlow      = &fault{http2.ErrCodeFlowControl, ReasonFlowControl}
	faultClosed    = &fault{http2.ErrCodeStreamClosed, ReasonStreamClosed}
)

// readFrames takes frames until the connection ends, and returns why it does.
func (l *link) readFrames() error {
	for {
		for l.in != nil && l.in.w-l.in.r >= frameHeaderLen {
			h := parseFrameHeader(l.in.b[l.in.r:])
			if h.length > maxFrame {
				return faultFrameSize
			}
			if l.in.w-l.in.r < frameHeaderLen+h.length {
				break
			}
			payload := l.in.b[l.in.r+frameHeaderLen : l.in.r+frameHeaderLen+h.length]
			l.in.r += frameHeaderLen + h.length
			if fault := l.frame(h, payload); fault != nil {
				return fault
			}
		}
		l.side.batch()
		l.flushElsewhere()
		l.limitRead()
		if err := l.fill(); err != nil {
			return err
		}
	}
}

// limitRead bounds the time for the rest of a frame or a header section.
func (l *link) limitRead() {
	switch {
	case l.opening.active || !l.settled:
		if l.readUntil.Load() == 0 {
			l.readUntil.Store(l.eng.until(l.opts.headTimeout))
		}
	case l.in != nil && l.in.r < l.in.w:
		// A frame of 16 KiB may take as long as a piece of a body.
		if l.readUntil.Load() == 0 {
			l.readUntil.Store(l.eng.until(l.opts.bodyTimeout))
		}
	default:
		l.readUntil.Store(0)
	}
}

// frame takes one frame.
func (l *link) frame(h frameHeader, p []byte) *fault {
	if l.readUntil.Load() != 0 && !l.opening.active {
		l.readUntil.Store(0)
	}
	if l.opening.active && (h.kind != http2.FrameContinuation || h.stream != l.opening.id) {
		return faultFrame
	}
	if !l.settled && (h.kind != http2.FrameSettings || h.flags.Has(http2.FlagSettingsAck)) {
		return &fault{http2.ErrCodeProtocol, ReasonPreface}
	}
	switch h.kind {
	case http2.FrameData:
		return l.dataFrame(h, p)
	case http2.FrameHeaders:
		return l.headersFrame(h, p)
	case http2.FramePriority:
		return l.priorityFrame(h, p)
	case http2.FrameRSTStream:
		return l.resetFrame(h, p)
	case http2.FrameSettings:
		return l.settingsFrame(h, p)
	case http2.FramePushPromise:
		return faultFrame // neither side has anybody who may push
	case http2.FramePing:
		return l.pingFrame(h, p)
	case http2.FrameGoAway:
		return l.goAwayFrame(h, p)
	case http2.FrameWindowUpdate:
		return l.windowFrame(h, p)
	case http2.FrameContinuation:
		if !l.opening.active {
			return faultFrame
		}
		return l.fragment(h, p)
	default:
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.spend(1)
	}
}

// unpad takes the padding off a payload.
func unpad(h frameHeader, p []byte) ([]byte, *fault) {
	if !h.flags.Has(http2.FlagDataPadded) {
		return p, nil
	}
	if len(p) == 0 {
		return nil, faultFrameSize
	}
	if int(p[0]) >= len(p) {
		return nil, faultFrame
	}
	return p[1 : len(p)-int(p[0])], nil
}

// idle reports whether nobody has opened a stream yet. mu is held.
func (l *link) idle(id uint32) bool {
	if l.opts.client == (id%2 == 1) {
		return id >= l.nextID
	}
	return id > l.peerMax
}

// refuse resets a stream that is not on the list, or is to be forgotten. mu
// is held.
func (l *link) refuse(id uint32, code http2.ErrCode, reason Reason) *fault {
	l.opts.counts[reason].Add(1)
	if st := l.streams[id]; st != nil && st.reset != closedByPeer && (!st.ended || !st.peerEnded) {
		if st.reset == closedLong {
			l.control++
		}
		st.abort(code, reason)
		st.cancel(reason)
		return nil
	}
	if l.closed.find(id) == closedLong {
		l.closed.add(id, closedByUs)
	}
	return l.answer(appendReset(l.room(), id, code))
}

func (l *link) dataFrame(h frameHeader, p []byte) *fault {
	if h.stream == 0 {
		return faultFrame
	}
	data, bad := unpad(h, p)
	if bad != nil {
		return bad
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	size, end := int64(len(p)), h.flags.Has(http2.FlagDataEndStream)
	if l.recvWindow -= size; l.recvWindow < 0 {
		return faultFlow
	}
	if len(data) == 0 && !end {
		if bad = l.spend(1); bad != nil {
			return bad
		}
	}
	st := l.streams[h.stream]
	if st == nil {
		if l.idle(h.stream) {
			return faultFrame
		}
		l.giveBack(size)
		if l.closed.find(h.stream) == closedByUs {
			return l.spend(0)
		}
		return l.refuse(h.stream, http2.ErrCodeStreamClosed, ReasonStreamClosed)
	}
	if st.peerEnded || st.reset == closedByPeer {
		l.giveBack(size)
		return l.refuse(h.stream, http2.ErrCodeStreamClosed, ReasonStreamClosed)
	}
	if st.err != nil {
		l.giveBack(size)
		return nil
	}
	if st.recvWindow -= size; st.recvWindow < 0 {
		l.giveBack(size)
		return l.refuse(h.stream, http2.ErrCodeFlowControl, ReasonFlowControl)
	}
	if st.left >= 0 {
		if st.left -= int64(len(data)); st.left < 0 || (end && st.left > 0) {
			l.giveBack(size)
			return l.refuse(h.stream, http2.ErrCodeProtocol, ReasonContentLength)
		}
	}
	st.store(data)
	st.giveBack(size - int64(len(data)))
	if end {
		st.endReceived()
	}
	return nil
}

// endReceived notes that everything was received. mu is held.
func (st *stream) endReceived() {
	st.peerEnded = true
	if st.ended {
		st.uncount()
	}
	wake(st.readable)
}

func (l *link) headersFrame(h frameHeader, p []byte) *fault {
	if h.stream == 0 {
		return faultFrame
	}
	p, bad := unpad(h, p)
	if bad != nil {
		return bad
	}
	l.block.reset()
	if h.flags.Has(http2.FlagHeadersPriority) {
		if len(p) < 5 {
			return faultFrameSize
		}
		if binary.BigEndian.Uint32(p)&maxStreamID == h.stream {
			l.block.bad(ReasonFrame)
		}
		p = p[5:]
	}
	l.opening = opening{active: true, end: h.flags.Has(http2.FlagHeadersEndStream), id: h.stream}
	return l.fragment(h, p)
}

// fragment takes a part of a header section.
func (l *link) fragment(h frameHeader, p []byte) *fault {
	o := &l.opening
	o.bytes += len(p)
	most := 2 * l.opts.headerBytes
	if o.frames++; o.frames > maxContinuations+most/maxFrame || o.bytes > most {
		return &fault{http2.ErrCodeEnhanceYourCalm, ReasonHeaderFlood}
	}
	if _, err := l.dec.Write(p); err != nil {
		return badBlock(err)
	}
	if !h.flags.Has(http2.FlagHeadersEndHeaders) {
		return nil
	}
	if err := l.dec.Close(); err != nil {
		return badBlock(err)
	}
	o.active = false
	l.readUntil.Store(0)
	l.block.finish()
	return l.side.header(o.id, o.end)
}

func badBlock(err error) *fault {
	if errors.Is(err, hpack.ErrStringLength) {
		return &fault{http2.ErrCodeEnhanceYourCalm, ReasonHeaderFlood}
	}
	return &fault{http2.ErrCodeCompression, ReasonCompression}
}

func (l *link) priorityFrame(h frameHeader, p []byte) *fault {
	if h.stream == 0 {
		return faultFrame
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if bad := l.spend(1); bad != nil {
		return bad
	}
	switch {
	case len(p) != 5:
		return l.refuse(h.stream, http2.ErrCodeFrameSize, ReasonFrameSize)
	case binary.BigEndian.Uint32(p)&maxStreamID == h.stream:
		return l.refuse(h.stream, http2.ErrCodeProtocol, ReasonFrame)
	}
	return nil
}

func (l *link) resetFrame(h frameHeader, p []byte) *fault {
	switch {
	case h.stream == 0:
		return faultFrame
	case len(p) != 4:
		return faultFrameSize
	}
	code := http2.ErrCode(binary.BigEndian.Uint32(p))
	l.mu.Lock()
	defer l.mu.Unlock()
	st := l.streams[h.stream]
	if st == nil {
		if l.idle(h.stream) {
			return faultFrame
		}
		return l.spend(1)
	}
	if st.reset == closedByPeer {
		return l.spend(1)
	}
	var bad *fault
	if !st.ended && !l.opts.client {
		bad = l.wasted()
	}
	if code == http2.ErrCodeNo && l.opts.client && st.peerEnded {
		// The answer is complete; the rest of the request is not wanted.
		st.reset = closedByPeer
		st.ended = true
		wake(st.writable)
		return nil
	}
	st.reset = closedByPeer
	st.fail(resetError{code})
	st.cancel(exchange.ErrClientGone)
	return bad
}

func (l *link) windowFrame(h frameHeader, p []byte) *fault {
	if len(p) != 4 {
		return faultFrameSize
	}
	n := int64(binary.BigEndian.Uint32(p) & maxStreamID)
	l.mu.Lock()
	defer l.mu.Unlock()
	if bad := l.spend(1); bad != nil {
		return bad
	}
	if h.stream == 0 {
		if n == 0 {
			return faultFrame
		}
		if l.sendWindow += n; l.sendWindow > maxWindow {
			return faultFlow
		}
		l.wakeBlocked()
		return nil
	}
	st := l.streams[h.stream]
	switch {
	case st == nil && l.idle(h.stream):
		return faultFrame
	case st == nil:
		return nil
	case n == 0:
		return l.refuse(h.stream, http2.ErrCodeProtocol, ReasonFlowControl)
	}
	if st.sendWindow += n; st.sendWindow > maxWindow {
		return l.refuse(h.stream, http2.ErrCodeFlowControl, ReasonFlowControl)
	}
	wake(st.writable)
	return nil
}

func (l *link) goAwayFrame(h frameHeader, p []byte) *fault {
	switch {
	case h.stream != 0:
		return faultFrame
	case len(p) < 8:
		return faultFrameSize
	}
	l.side.goAway(binary.BigEndian.Uint32(p) & maxStreamID)
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.spend(1)
}

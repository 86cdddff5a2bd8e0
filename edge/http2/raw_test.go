package http2

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// raw is one end of a connection that says what it is told to.
type raw struct {
	t      testing.TB
	nc     net.Conn
	framer *http2.Framer
	block  bytes.Buffer
	enc    *hpack.Encoder
	dec    *hpack.Decoder
}

func newRaw(t testing.TB, nc net.Conn) *raw {
	t.Cleanup(func() { _ = nc.Close() })
	r := &raw{t: t, nc: nc, framer: http2.NewFramer(nc, nc)}
	r.framer.AllowIllegalWrites, r.framer.AllowIllegalReads = true, true
	r.enc = hpack.NewEncoder(&r.block)
	r.dec = hpack.NewDecoder(4096, nil)
	return r
}

// dialRaw connects to a server and greets it.
func dialRaw(t testing.TB, address string, settings ...http2.Setting) *raw {
	t.Helper()
	nc, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	r := newRaw(t, nc)
	if _, err := io.WriteString(nc, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	r.check(r.framer.WriteSettings(settings...))
	return r
}

// acceptRaw is an endpoint that greets whoever connects next.
func acceptRaw(t testing.TB, listener net.Listener, settings ...http2.Setting) *raw {
	nc, err := listener.Accept()
	if err != nil {
		t.Error(err)
		return nil
	}
	r := newRaw(t, nc)
	greeting := make([]byte, len(http2.ClientPreface))
	if _, err := io.ReadFull(nc, greeting); err != nil || string(greeting) != http2.ClientPreface {
		t.Errorf("client began with %q, %v", greeting, err)
	}
	r.check(r.framer.WriteSettings(settings...))
	return r
}

func (r *raw) check(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Error(err)
	}
}

// encode makes a header block of pairs.
func (r *raw) encode(pairs ...string) []byte {
	r.block.Reset()
	for i := 0; i < len(pairs); i += 2 {
		r.check(r.enc.WriteField(hpack.HeaderField{Name: pairs[i], Value: pairs[i+1]}))
	}
	return append([]byte(nil), r.block.Bytes()...)
}

// headers sends a header section, in as many frames as it takes.
func (r *raw) headers(id uint32, end bool, pairs ...string) {
	r.t.Helper()
	_, err := r.nc.Write(appendHeaderBlock(nil, r.encode(pairs...), id, end, maxFrame))
	r.check(err)
}

// get are the pseudo-header fields of a usual request.
func get(more ...string) []string {
	return append([]string{":method", "GET", ":scheme", "http", ":path", "/", ":authority", "a.test"}, more...)
}

func post(more ...string) []string {
	return append([]string{":method", "POST", ":scheme", "http", ":path", "/", ":authority", "a.test"}, more...)
}

// event is what came on a stream, or on the connection.
type event struct {
	kind   http2.FrameType
	stream uint32
	code   http2.ErrCode // of a reset or a GOAWAY
	last   uint32        // of a GOAWAY
	more   int           // of a WINDOW_UPDATE
	fields map[string]string
	block  []byte
	data   string
	end    bool
	ack    bool
	closed bool
}

// next reads the next frame.
func (r *raw) next() event {
	r.t.Helper()
	r.check(r.nc.SetReadDeadline(time.Now().Add(10 * time.Second)))
	frame, err := r.framer.ReadFrame()
	if err != nil {
		if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
			r.t.Fatal("nothing came")
		}
		return event{closed: true}
	}
	h := frame.Header()
	e := event{kind: h.Type, stream: h.StreamID, end: h.Flags.Has(http2.FlagDataEndStream)}
	switch frame := frame.(type) {
	case *http2.HeadersFrame:
		fields, err := r.dec.DecodeFull(frame.HeaderBlockFragment())
		r.check(err)
		e.fields, e.block = make(map[string]string), append([]byte(nil), frame.HeaderBlockFragment()...)
		for _, field := range fields {
			e.fields[field.Name] = field.Value
		}
	case *http2.DataFrame:
		e.data = string(frame.Data())
	case *http2.RSTStreamFrame:
		e.code, e.end = frame.ErrCode, false
	case *http2.GoAwayFrame:
		e.code, e.last, e.end = frame.ErrCode, frame.LastStreamID, false
	case *http2.WindowUpdateFrame:
		e.more, e.end = int(frame.Increment), false
	default:
		e.ack, e.end = h.Flags.Has(http2.FlagPingAck), false
	}
	return e
}

// await reads until a frame of a kind comes, or the connection is closed.
func (r *raw) await(kind http2.FrameType) event {
	r.t.Helper()
	for {
		if e := r.next(); e.closed || e.kind == kind {
			return e
		}
	}
}

// answer is a whole response, or how its stream ended.
type response struct {
	status  string
	fields  map[string]string
	trailer map[string]string
	body    string
	reset   bool
	code    http2.ErrCode
	closed  bool
}

// response reads the response on a stream. What comes for others is dropped.
func (r *raw) response(id uint32) (got response) {
	r.t.Helper()
	for {
		e := r.next()
		if e.closed {
			got.closed = true
			return got
		}
		if e.kind == http2.FrameGoAway && e.code != http2.ErrCodeNo {
			got.reset, got.code, got.closed = true, e.code, true
			return got
		}
		if e.stream != id {
			continue
		}
		switch e.kind {
		case http2.FrameHeaders:
			switch {
			case got.status == "" || got.status[0] == '1':
				got.status, got.fields = e.fields[":status"], e.fields
			default:
				got.trailer = e.fields
			}
		case http2.FrameData:
			got.body += e.data
		case http2.FrameRSTStream:
			got.reset, got.code = true, e.code
			return got
		default:
		}
		if e.end {
			return got
		}
	}
}

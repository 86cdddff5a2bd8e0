// Package exchange is one request and its response, whatever protocol carries
// them: heads, pull bodies, trailers, interim responses and tunnels.
//
// A downstream codec parses a request into an [Exchange], calls
// [Handler.Serve], writes the response found there and calls [Handler.Done].
// The handler fills the response, usually by giving the exchange to the
// [Transport] of an endpoint. Neither side knows the other's protocol.
//
// Bodies are pulled: the transport pulls the request's body from the
// downstream codec, the codec pulls the response's body from the transport.
// What is not pulled is not read from the wire, so memory stays bounded and
// back pressure reaches the sender.
package exchange

import (
	"crypto/tls"
	"net/netip"
	"time"
)

// Proto is the HTTP version that carried a message.
type Proto uint8

// The protocol versions.
const (
	ProtoUnknown Proto = iota
	HTTP10
	HTTP11
	HTTP2
)

// String is the version as access logs write it: "HTTP/1.1".
func (p Proto) String() string {
	switch p {
	case HTTP10:
		return "HTTP/1.0"
	case HTTP11:
		return "HTTP/1.1"
	case HTTP2:
		return "HTTP/2"
	default:
		return "unknown"
	}
}

// Request is the client's request. Strings may be views into a buffer of the
// codec, valid until [Handler.Done] returns.
type Request struct {
	Method    string // as received; never CONNECT
	Scheme    string // "http" or "https", as the client used it
	Authority string // host with optional port, as received
	Path      string // begins with "/", or is "*" for OPTIONS; not decoded
	Query     string // what follows the first "?", without it
	HasQuery  bool   // there was a "?", perhaps with nothing behind it
	Proto     Proto

	// Header is without the fields that frame the message or belong to one
	// connection (Connection and what it names, Keep-Alive,
	// Transfer-Encoding, TE, Trailer, Upgrade, Proxy-*, Content-Length,
	// Host, Expect): the codecs take and write those themselves.
	Header Fields

	// Body is nil when the request has none. One whose Next may wait also
	// implements [Interrupter], so that a transport that has given the
	// request up can end a pull that is under way on another goroutine; who
	// wraps a body passes Interrupt on.
	Body Body
	// ContentLength is the body's length in bytes, 0 without a body, -1 when
	// it is not known beforehand.
	ContentLength int64
	// ExpectContinue: the client waits for 100 (Continue) before it sends
	// the body; the codec sends it at the first pull.
	ExpectContinue bool
	// Upgrade is the protocol the client wants to switch to ("websocket"),
	// empty for none.
	Upgrade string
	// TETrailers: the client said that it accepts trailers ("TE: trailers").
	TETrailers bool
}

// Response is what the client gets. The handler, or the transport for it,
// fills it in.
type Response struct {
	Status int // 200 to 599, or 101 with a Tunnel
	// Header is without framing and connection fields, as in Request.
	Header Fields
	// Body is nil when the response has none. One that ends at
	// [Exchange.Deadline] also implements [Prolonger].
	Body Body
	// ContentLength is the body's length in bytes or -1 when it is not known
	// beforehand. In an answer to HEAD and in a 304 it is what the upstream
	// announced, -1 when it announced nothing; Body is nil there.
	ContentLength int64
	// Tunnel is set with status 101: from then on bytes flow both ways
	// until both sides have ended.
	Tunnel Tunnel
	// Upgrade is the protocol switched to, with status 101.
	Upgrade string
	// CloseConnection asks the codec to end the client's connection after
	// this response.
	CloseConnection bool
}

// Reset empties the response for another attempt, keeping memory. It does not
// close Body or Tunnel.
func (r *Response) Reset() {
	r.Header.Reset()
	*r = Response{Header: r.Header}
}

// Body is a message body that is pulled piece by piece. It is not safe for
// concurrent use.
type Body interface {
	// Next returns the next piece, which is valid until the next call of any
	// method. At the end it returns io.EOF and no bytes; any other error is
	// an [*Error] and final.
	Next() ([]byte, error)
	// Buffered returns the whole body without consuming it, and true, when
	// it has been received completely and nothing was pulled yet: such a
	// body can be sent again after a failed attempt. Trailer is known then.
	Buffered() ([]byte, bool)
	// Trailer returns the trailer fields after Next has returned io.EOF; nil
	// when there are none.
	Trailer() *Fields
	// Close ends the use of the body and frees what it holds. Closing before
	// io.EOF abandons the rest. It may be called more than once.
	Close() error
}

// Prolonger is a response body that ends at a deadline, which a handler may
// change before the body is pulled: an answer that turns out to be a stream
// lasts as long as it has something to say.
type Prolonger interface {
	// SetDeadline replaces the exchange's deadline; the zero time is none.
	SetDeadline(t time.Time)
}

// Tunnel is the upstream's side of a switched connection (WebSocket). Read
// and Write may be used by two goroutines at once; Close ends both.
type Tunnel interface {
	Read(p []byte) (int, error)
	Write(p []byte) (int, error)
	// CloseWrite tells the far side that nothing more comes from here.
	CloseWrite() error
	Close() error
}

// Timeouts bound one attempt at an upstream. Zero means no bound of its own.
type Timeouts struct {
	Connect time.Duration // until a connection is established
	TLS     time.Duration // until its TLS handshake is over; 0: Connect includes it
	Head    time.Duration // from the request sent to the response head
	Idle    time.Duration // between two pieces of a body or a tunnel, each way
	// Body is between two pieces of the request's body, for exchanges whose
	// client may be silent for long; 0: what the codec allows every client.
	Body time.Duration
}

// Conn describes the client's connection.
type Conn struct {
	ID     uint64         // unique in this process
	Remote netip.AddrPort // the peer, or the client that PROXY protocol names
	Local  netip.AddrPort
	TLS    *tls.ConnectionState // nil on cleartext
}

// Interim sends an interim response (103 Early Hints) ahead of the final one.
// Codecs implement it.
type Interim interface {
	WriteInterim(status int, header *Fields) error
}

// Exchange is one request and its response. A codec owns it and uses it again
// for the next request of the connection.
type Exchange struct {
	Request  Request
	Response Response
	Conn     *Conn
	Timeouts Timeouts
	// Deadline ends every wait of the exchange, up to the response's last byte;
	// zero means none. Tunnels end it, and a [Prolonger] may get another one.
	Deadline time.Time
	// Start is when the first byte of the request was seen.
	Start time.Time
	// Interim is nil when the client cannot take interim responses (HTTP/1.0).
	Interim Interim
	// State is the handler's own; codecs keep it from one use of this
	// Exchange to the next, of this or another connection, so that a handler
	// can use its memory again.
	State any

	// RequestBytes and ResponseBytes count body bytes read from and written
	// to the client, complete when Done is called.
	RequestBytes  int64
	ResponseBytes int64

	kept []Releaser

	cancellation
}

// Releaser is memory that an exchange's strings are views into.
type Releaser interface {
	Release()
}

// Keep makes r last until the exchange is over: a transport whose response
// fields are views into a buffer of its own lends the buffer this way.
func (x *Exchange) Keep(r Releaser) { x.kept = append(x.kept, r) }

// Release gives back what was kept, latest first. The codec calls it after
// [Handler.Done]; nobody else does.
func (x *Exchange) Release() {
	for i := len(x.kept) - 1; i >= 0; i-- {
		x.kept[i].Release()
		x.kept[i] = nil
	}
	x.kept = x.kept[:0]
}

// Transport sends an exchange to one endpoint.
type Transport interface {
	// RoundTrip sends x.Request and fills x.Response as far as the head;
	// the body is pulled by whoever writes the response. It waits for
	// nothing past x.Deadline, x.Timeouts and the exchange's cancellation.
	//
	// A non-nil error is an [*Error]. It says whether a byte of the request
	// was written: before that the request's body has not been pulled.
	RoundTrip(x *Exchange) error
}

// Handler decides what a request is answered with.
type Handler interface {
	// Serve fills x.Response. It runs on the goroutine of the connection (or
	// stream) and must not keep x or anything in it after Done.
	Serve(x *Exchange)
	// Done follows each Serve exactly once, after the response was written
	// completely (err nil) or could not be (an [*Error] with whose fault it
	// was). The response's body and tunnel are closed by then.
	Done(x *Exchange, err error)
}

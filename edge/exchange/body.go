package exchange

import "io"

// BytesBody is a body that is in memory already: the gateway's own answers.
// The zero value is an empty body.
type BytesBody struct {
	data []byte
	sent bool
}

var _ Body = (*BytesBody)(nil)

// Set makes b a body of data, which is kept, not copied.
func (b *BytesBody) Set(data []byte) { b.data, b.sent = data, false }

// Next implements [Body].
func (b *BytesBody) Next() ([]byte, error) {
	if b.sent || len(b.data) == 0 {
		return nil, io.EOF
	}
	b.sent = true
	return b.data, nil
}

// Buffered implements [Body].
func (b *BytesBody) Buffered() ([]byte, bool) { return b.data, !b.sent }

// Trailer implements [Body]; there is none.
func (b *BytesBody) Trailer() *Fields { return nil }

// Close implements [Body].
func (b *BytesBody) Close() error { return nil }

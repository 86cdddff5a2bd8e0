package http2

import (
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"

	"github.com/grayfed/grayfed/edge/exchange"
)

// WebSocket over HTTP/2 has no key and no accept (RFC 8441, section 5). Where
// one side of the gateway speaks HTTP/1, which wants both, they are made or
// taken away here.
const (
	websocket       = "websocket"
	webSocketKey    = "Sec-WebSocket-Key"
	webSocketAccept = "Sec-WebSocket-Accept"
	webSocketGUID   = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11" // RFC 6455, section 1.3
)

// addWebSocketKey gives a request the key that an HTTP/1 endpoint wants.
func addWebSocketKey(fields *exchange.Fields) {
	var nonce [16]byte
	_, _ = rand.Read(nonce[:]) // it never fails: crypto/rand
	fields.DelName(webSocketKey)
	fields.Add(webSocketKey, base64.StdEncoding.EncodeToString(nonce[:]))
}

// webSocketAnswer is the accept that belongs to a key.
func webSocketAnswer(key string) string {
	sum := sha1.Sum([]byte(key + webSocketGUID))
	return base64.StdEncoding.EncodeToString(sum[:])
}

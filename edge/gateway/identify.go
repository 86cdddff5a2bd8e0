package gateway

import (
	"net/netip"
	"strings"

	"github.com/grayfed/grayfed/edge/exchange"
)

// What identify has met among a request's fields.
const (
	metFor = 1 << iota
	metProto
	metHost
	metRealIP
	metID
	metPort
	metForwarded
	metLookalike
)

// identify gives the request its id and says whom it comes from.
//
// Peers are believed only when trusted_proxies has them. Whatever others say in
// X-Forwarded-For, -Proto, -Host, -Port, X-Real-IP and X-Request-ID is replaced,
// and so is their Forwarded, or removed where this edge writes none: the
// upstream sees what this edge saw. A trusted peer's X-Forwarded-For and
// Forwarded are extended by the peer; the other fields stay when they are well
// formed. X-Forwarded-Port is the port that goes with X-Forwarded-Host and
// -Proto: behind a port mapping a listener's own would lead nowhere. Fields that
// may pass for any that the edge knows ("x_real.ip") are dropped, whoever sends
// them (nginx: underscores_in_headers). A request id of a trusted peer stays
// when it is 1 to 128 letters, digits, or any of "._~+/=:@-"; else a new one of
// 128 random bits is made. (Envoy: external requests get a new x-request-id,
// internal ones keep theirs.)
func (g *Gateway) identify(c *call) {
	x := c.x
	if remote := x.Conn.Remote.Addr(); remote != c.peer || c.peerText == "" {
		c.takePeer(g, remote)
	}
	header := &x.Request.Header
	c.tags, c.tagField, c.explain, c.grpc = 0, "", false, false
	c.client, c.id = c.peerText, ""
	met, twice := 0, 0
	list := header.All()
	for i := range list {
		field := &list[i]
		var bit int
		switch field.ID {
		case exchange.FieldXForwardedFor:
			bit = metFor
		case exchange.FieldXForwardedProto:
			bit = metProto
		case exchange.FieldXForwardedHost:
			bit = metHost
		case exchange.FieldXRealIP:
			bit = metRealIP
		case exchange.FieldXRequestID:
			bit = metID
			if c.trusted && c.id == "" && validID(field.Value) {
				c.id = field.Value
			}
		case exchange.FieldXForwardedPort:
			bit = metPort
		case exchange.FieldForwarded:
			bit = metForwarded
		case exchange.FieldLookalike, exchange.FieldXGrayHop:
			bit = metLookalike
		case exchange.FieldXReleaseTag:
			if c.tags++; c.tags == 1 {
				c.tagField = field.Value
			}
			continue
		case exchange.FieldXGrayExplain:
			c.explain = c.explain || field.Value == "1"
			continue
		case exchange.FieldContentType:
			c.grpc = c.grpc || isGRPC(field.Value)
			continue
		default:
			continue
		}
		twice |= met & bit
		met |= bit
	}
	if c.id == "" {
		c.id = newID(&c.idBuf, g.opts.Rand(), g.opts.Rand())
	}
	if met&metLookalike != 0 {
		header.Del(exchange.FieldLookalike)
		header.Del(exchange.FieldXGrayHop) // clients have no say in it
		met &^= metLookalike
	}
	if met == 0 {
		c.addForwarding(header)
		return
	}
	c.setForwarding(header, met, twice)
}

func (c *call) takePeer(g *Gateway, remote netip.Addr) {
	c.peer = remote
	addr := remote.Unmap().WithZone("")
	if !addr.IsValid() {
		c.peerText, c.trusted = "unknown", false
		return
	}
	c.peerText = view(addr.AppendTo(c.peerBuf[:0]))
	c.trusted = g.trusts(addr)
}

// trusts reports whether a peer's word counts.
func (g *Gateway) trusts(addr netip.Addr) bool {
	for _, prefix := range g.opts.TrustedProxies {
		if prefix.Contains(addr) {
			return true
		}
	}
	return false
}

// addForwarding is the usual case: the request has none of the fields.
func (c *call) addForwarding(header *exchange.Fields) {
	header.Append(exchange.Field{Name: "X-Request-ID", Value: c.id, ID: exchange.FieldXRequestID})
	header.Append(exchange.Field{Name: "X-Forwarded-For", Value: c.peerText, ID: exchange.FieldXForwardedFor})
	header.Append(exchange.Field{Name: "X-Forwarded-Proto", Value: c.x.Request.Scheme, ID: exchange.FieldXForwardedProto})
	if c.x.Request.Authority != "" {
		header.Append(exchange.Field{Name: "X-Forwarded-Host", Value: c.x.Request.Authority, ID: exchange.FieldXForwardedHost})
	}
	header.Append(exchange.Field{
		Name: "X-Forwarded-Port", Value: portOf(c.x.Request.Authority, c.x.Request.Scheme), ID: exchange.FieldXForwardedPort,
	})
	header.Append(exchange.Field{Name: "X-Real-IP", Value: c.peerText, ID: exchange.FieldXRealIP})
	if c.g.opts.Forwarded {
		c.setForwarded(header, 0)
	}
}

// setForwarding replaces or extends the fields that are there; twice are those
// that are there more than once.
func (c *call) setForwarding(header *exchange.Fields, met, twice int) {
	header.Set(exchange.FieldXRequestID, c.id)
	if !c.trusted {
		if met&metForwarded != 0 {
			header.Del(exchange.FieldForwarded)
		}
		header.Set(exchange.FieldXForwardedFor, c.peerText)
		header.Set(exchange.FieldXForwardedProto, c.x.Request.Scheme)
		c.setHost(header)
		c.setPort(header, twice)
		header.Set(exchange.FieldXRealIP, c.peerText)
		if c.g.opts.Forwarded {
			c.setForwarded(header, met)
		}
		return
	}
	if met&metFor != 0 {
		c.client = c.extend(header)
	} else {
		header.Set(exchange.FieldXForwardedFor, c.peerText)
	}
	if proto, _ := header.Get(exchange.FieldXForwardedProto); twice&metProto != 0 || proto != "http" && proto != "https" {
		header.Set(exchange.FieldXForwardedProto, c.x.Request.Scheme)
	}
	if host, _ := header.Get(exchange.FieldXForwardedHost); host == "" || twice&metHost != 0 {
		c.setHost(header)
	}
	c.setPort(header, twice)
	if c.g.opts.Forwarded {
		c.setForwarded(header, met)
	}
	said, _ := header.Get(exchange.FieldXRealIP)
	switch {
	case said == "" || twice&metRealIP != 0 || !validAddr(said):
		header.Set(exchange.FieldXRealIP, c.client)
	case met&metFor == 0:
		c.client = said
	}
}

func validAddr(text string) bool {
	_, err := netip.ParseAddr(text)
	return err == nil
}

func (c *call) setHost(header *exchange.Fields) {
	if c.x.Request.Authority == "" {
		header.Del(exchange.FieldXForwardedHost)
		return
	}
	header.Set(exchange.FieldXForwardedHost, c.x.Request.Authority)
}

// extend appends the peer to what X-Forwarded-For says, repeated fields joined
// in order, and returns whom the request comes from: the last address that is
// not a trusted proxy's, or the first one when all are. What is no address ends
// the search, since nothing before it can be told from a forgery.
func (c *call) extend(header *exchange.Fields) (client string) {
	c.forwarded = c.forwarded[:0]
	for _, field := range header.All() {
		if field.ID == exchange.FieldXForwardedFor && field.Value != "" {
			c.forwarded = append(c.forwarded, field.Value...)
			c.forwarded = append(c.forwarded, ", "...)
		}
	}
	chain := len(c.forwarded)
	c.chain = chain
	c.forwarded = append(c.forwarded, c.peerText...)
	all := view(c.forwarded)
	header.Set(exchange.FieldXForwardedFor, all)

	client = c.peerText
	for rest := all[:chain]; rest != ""; {
		rest = strings.TrimRight(rest, ", \t")
		last := strings.TrimLeft(rest[strings.LastIndexByte(rest, ',')+1:], " \t")
		rest = rest[:max(strings.LastIndexByte(rest, ','), 0)]
		addr, err := netip.ParseAddr(last)
		if err != nil {
			break
		}
		client = last
		if !c.g.trusts(addr.Unmap()) {
			break
		}
	}
	return client
}

// validID reports whether an id can be logged and passed on as it is.
func validID(id string) bool {
	if len(id) == 0 || len(id) > 128 {
		return false
	}
	for i := range len(id) {
		c := id[i]
		alphanumeric := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !alphanumeric && strings.IndexByte("._~+/=:@-", c) < 0 {
			return false
		}
	}
	return true
}

// newID writes 128 random bits as hexadecimal digits.
func newID(buf *[32]byte, high, low uint64) string {
	const digits = "0123456789abcdef"
	for i := range 16 {
		buf[i] = digits[high>>(60-4*i)&15]
		buf[16+i] = digits[low>>(60-4*i)&15]
	}
	return view(buf[:])
}

package dns

import (
	"encoding/binary"

	wire "github.com/miekg/dns"
)

const (
	// maxUDP is what goes through today's networks in one piece:
	// https://www.dnsflagday.net/2020/
	maxUDP = 1232
	minUDP = 512 // every client takes that (RFC 1035, 4.2.1)
	maxTCP = 65535
)

// answer is what is said to a question, before it is known how much of it
// fits.
type answer struct {
	code    code
	records *packed // nil: none
}

// reply appends the answer to msg, which came by UDP or by TCP, to out; nil:
// nothing is said.
func (s *Server) reply(out, msg []byte, udp bool) []byte {
	var q query
	code, drop := q.parse(msg)
	if drop != dropNone {
		s.metrics.dropped(drop)
		return nil
	}
	asked := kindOther
	a := answer{code: code}
	if code == codeNone {
		asked = kindOf(q.qtype)
		a = s.zone.Load().answer(&q, s.opts.Rand)
	}
	limit := maxTCP
	if udp {
		limit = min(max(q.size, minUDP), maxUDP)
	}
	out, truncated := q.write(out, a, limit)
	s.metrics.answered(asked, a.code, truncated)
	return out
}

// write appends an answer of at most limit bytes to out and says whether
// something that belongs into it was left out. The question is repeated letter
// by letter, because resolvers recognise their own by its capitals.
func (q *query) write(out []byte, a answer, limit int) (_ []byte, truncated bool) {
	var counts [4]int // question, answer, authority, additional
	room := limit - headerSize - len(q.question)
	if q.edns {
		counts[3]++
		room -= optSize
	}
	var records []byte
	if a.records != nil {
		var part [3]int
		records, part = a.records.fit(room)
		counts[1], counts[2] = part[0], part[1]
		counts[3] += part[2]
		truncated = part[0] < a.records.counts[0] || part[1] < a.records.counts[1]
	}
	if q.question != nil {
		counts[0] = 1
	}
	rcode := codes[a.code].rcode
	flags := flagQR | q.flags&(maskOpcode|flagRD) | rcode&0xf
	if a.records != nil {
		flags |= flagAA
	}
	if truncated {
		flags |= flagTC
	}
	out = binary.BigEndian.AppendUint16(out, q.id)
	out = binary.BigEndian.AppendUint16(out, flags)
	for _, n := range counts {
		out = binary.BigEndian.AppendUint16(out, uint16(n))
	}
	out = append(out, q.question...)
	out = append(out, records...)
	if q.edns {
		var do byte
		if q.do { // as RFC 3225 demands, though nothing here is signed
			do = ednsDO >> 8
		}
		out = append(out, 0, 0, byte(wire.TypeOPT), maxUDP>>8, maxUDP&0xff, byte(rcode>>4), 0, do, 0, 0, 0)
	}
	return out, truncated
}

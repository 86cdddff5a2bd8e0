package dns

import (
	"bytes"
	"encoding/binary"
	"testing"

	wire "github.com/miekg/dns"
)

// FuzzReply gives strangers' bytes to the handler. Whatever comes, what goes
// out can be read by others, is an answer to it, is within bounds, and is not
// empty where there is something; and what the library reads as a plain
// question is not refused as unreadable.
func FuzzReply(f *testing.F) {
	for _, name := range []string{gateway, srv, "az1." + gateway, "example.test.", "nobody.example.test.", "other.org.", ".", "GATEWAY.example.TEST."} {
		for _, qtype := range []uint16{wire.TypeA, wire.TypeAAAA, wire.TypeSRV, wire.TypeANY, wire.TypeAXFR, wire.TypeTXT} {
			q := question(name, qtype)
			f.Add(pack(f, q), true)
			q.SetEdns0(4096, true)
			f.Add(pack(f, q), false)
		}
	}
	q := question(gateway, wire.TypeA)
	q.SetTsig("key.", wire.HmacSHA256, 300, 1)
	f.Add(pack(f, q), true)
	update := new(wire.Msg)
	update.SetUpdate("example.test.")
	f.Add(pack(f, update), true)
	f.Add([]byte{}, true)

	s := quiet(f, options(), three()...)
	f.Fuzz(func(t *testing.T, msg []byte, udp bool) {
		before := bytes.Clone(msg)
		reply := s.reply([]byte("in front"), msg, udp)
		if !bytes.Equal(before, msg) {
			t.Fatal("the question was changed")
		}
		if reply == nil {
			if len(msg) >= headerSize && msg[2]&0x80 == 0 {
				t.Fatal("a question got no answer")
			}
			return
		}
		if !bytes.HasPrefix(reply, []byte("in front")) {
			t.Fatal("what was in front is gone")
		}
		reply = reply[len("in front"):]
		if udp && len(reply) > maxUDP || len(reply) > len(msg)+500 {
			t.Fatalf("%d bytes to %d", len(reply), len(msg))
		}
		if !bytes.Equal(reply[:2], msg[:2]) || reply[2]&0x80 == 0 || reply[2]&0x78 != msg[2]&0x78 || reply[3]&0xf0 != 0 {
			t.Fatalf("header %x to %x", reply[:4], msg[:4])
		}
		r := new(wire.Msg)
		if err := r.Unpack(reply); err != nil {
			t.Fatalf("%x cannot be read: %v", reply, err)
		}
		if len(r.Question) == 1 && !bytes.HasPrefix(reply[headerSize:], msg[headerSize:headerSize+1]) {
			t.Fatal("another question is repeated")
		}
		if r.Rcode == wire.RcodeSuccess && !r.Truncated && len(r.Answer) == 0 && (len(r.Ns) != 1 || kindOf(r.Question[0].Qtype) == kindA && wire.CanonicalName(r.Question[0].Name) == gateway) {
			t.Fatalf("an empty answer: %v", r)
		}
		q := new(wire.Msg)
		if q.Unpack(msg) != nil || q.Opcode != wire.OpcodeQuery || binary.BigEndian.Uint16(msg[4:]) != 1 || len(q.Question) != 1 {
			return
		}
		// It also reads names that point into the header, and ends that are missing.
		alone, err := (&wire.Msg{Question: q.Question}).Pack()
		plain := err == nil && bytes.HasPrefix(msg[headerSize:], alone[headerSize:]) && len(q.Answer)+len(q.Ns) == 0 && len(q.Extra) <= 1 && int(binary.BigEndian.Uint16(msg[10:])) == len(q.Extra) &&
			binary.BigEndian.Uint16(msg[6:])|binary.BigEndian.Uint16(msg[8:]) == 0
		if opt := q.IsEdns0(); opt != nil && opt.Hdr.Name != "." {
			plain = false
		}
		if plain && r.Rcode == wire.RcodeFormatError {
			t.Fatalf("refused as unreadable: %v", q)
		}
		if len(r.Question) == 1 && r.Question[0] != q.Question[0] {
			t.Fatalf("asked %v, repeated %v", q.Question[0], r.Question[0])
		}
	})
}

package dns

import (
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// FuzzParse: whatever a server sends, what is taken from it is well formed and
// really in the message.
func FuzzParse(f *testing.F) {
	z := zone{soaTTL: 3, records: map[string][]record{
		"api.example.": {{"CNAME", "b.example.", 50}},
		"b.example.":   {{"A", "10.0.0.7", 60}, {"AAAA", "2001:db8::7", 60}},
	}}
	for _, kind := range []string{"A", "AAAA", "MX"} {
		for _, name := range []string{"api.example.", "none.example."} {
			m := dnsmessage.Message{
				Header:    dnsmessage.Header{ID: 7, Response: true, RecursionAvailable: true},
				Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName("api.example."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}},
			}
			if kind == "AAAA" {
				m.Questions[0].Type = dnsmessage.TypeAAAA
			}
			z.fill(&m, name, kind)
			packed, err := m.Pack()
			if err != nil {
				f.Fatal(err)
			}
			f.Add(packed, kind == "AAAA")
		}
	}
	f.Fuzz(func(t *testing.T, message []byte, six bool) {
		q := question{name: dnsmessage.MustNewName("api.example."), family: ipv4}
		if six {
			q.family = ipv6
		}
		r, err := q.parse(message, 7)
		if err != nil {
			if len(r.addrs) > 0 || r.alias != "" {
				t.Errorf("error %v beside an answer %+v", err, r)
			}
			return
		}
		if r.ttl < 0 || r.ttl > maxTTL || len(r.addrs) > maxAddresses || len(r.addrs) > 0 && r.alias != "" {
			t.Errorf("answer %+v", r)
		}
		if !slices.IsSortedFunc(r.addrs, netip.Addr.Compare) {
			t.Errorf("addresses %v are not sorted", r.addrs)
		}
		var whole dnsmessage.Message
		if whole.Unpack(message) != nil {
			return // broken in a part that does not matter here
		}
		inMessage := make(map[netip.Addr]bool)
		for _, a := range whole.Answers {
			switch body := a.Body.(type) {
			case *dnsmessage.AResource:
				inMessage[netip.AddrFrom4(body.A)] = !six
			case *dnsmessage.AAAAResource:
				inMessage[netip.AddrFrom16(body.AAAA).Unmap()] = six
			}
		}
		for _, addr := range r.addrs {
			if !inMessage[addr] {
				t.Errorf("address %s is not in the message", addr)
			}
		}
	})
}

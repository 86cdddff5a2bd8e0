package gossip

import (
	"bytes"
	"errors"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/grayfed/grayfed/federation"
)

var testOrigin = origin{edge: "e1", incarnation: 7}

func testRecord(id string, version uint64, status federation.HealthStatus) record {
	r := record{
		key: federation.Key{Service: "user-service", ID: id}, version: version, seq: version,
		status: status, percent: 25, reason: "probe: failures in a row",
	}
	r.encode()
	return r
}

// samples are one good message of each kind.
func samples() map[string][]byte {
	name := nameHash(defaultName)
	b := beat{
		origin: testOrigin, seq: 3, revision: 42, clock: 17, digest: "abcd", config: "c0ffee",
		lag: 5 * time.Millisecond, version: 9, count: 2, hash: 1 << 63, share: 35,
	}
	r := testRecord("u1", 5, federation.Unhealthy)
	s := set{origin: testOrigin, version: 9, age: time.Second, records: []record{r, testRecord("u2", 9, federation.Recovering)}}
	l := loads{origin: testOrigin, seq: 4, entries: []load{{key: subject, inFlight: 12}, {key: federation.Key{Service: "s", ID: "i"}}}}
	d := delta{origin: testOrigin, record: r}
	state := appendBytes(appendBytes(newMessage(kindState, name), tagStateSet, s.append(nil)), tagStateBeat, b.append(nil))
	leaving := b
	leaving.leaving = true
	return map[string][]byte{
		"beat":      b.append(newMessage(kindBeat, name)),
		"leaving":   leaving.append(newMessage(kindBeat, name)),
		"delta":     d.append(newMessage(kindDelta, name)),
		"set":       s.append(newMessage(kindSet, name)),
		"state":     state,
		"load":      l.append(newMessage(kindLoad, name)),
		"sync":      appendOrigin(newMessage(kindSyncRequest, name), testOrigin),
		"heartbeat": appendKey(newMessage(kindHeartbeat, name), subject),
		"relay":     appendKey(newMessage(kindRelay, name), subject),
	}
}

func TestMessagesComeBackAsTheyWere(t *testing.T) {
	body := func(name string) []byte { return samples()[name][headerLength:] }
	b, err := decodeBeat(body("beat"))
	if err != nil || b.revision != 42 || b.clock != 17 || b.digest != "abcd" || b.config != "c0ffee" ||
		b.lag != 5*time.Millisecond || b.version != 9 || b.count != 2 || b.hash != 1<<63 || b.leaving || b.share != 35 || b.origin != testOrigin || b.seq != 3 {
		t.Errorf("beat %+v, %v", b, err)
	}
	if b, err := decodeBeat(body("leaving")); err != nil || !b.leaving {
		t.Errorf("leaving %+v, %v", b, err)
	}
	d, err := decodeDelta(body("delta"))
	if want := testRecord("u1", 5, federation.Unhealthy); err != nil || !reflect.DeepEqual(d.record, want) {
		t.Errorf("delta %+v, %v", d, err)
	}
	s, err := decodeSet(body("set"))
	if err != nil || s.version != 9 || s.age != time.Second || len(s.records) != 2 || s.records[1].status != federation.Recovering || s.records[1].percent != 25 {
		t.Errorf("set %+v, %v", s, err)
	}
	l, err := decodeLoads(body("load"))
	if err != nil || l.seq != 4 || len(l.entries) != 2 || l.entries[0] != (load{key: subject, inFlight: 12}) {
		t.Errorf("loads %+v, %v", l, err)
	}
	if key, err := decodeKey(body("heartbeat")); err != nil || key != subject {
		t.Errorf("heartbeat %v, %v", key, err)
	}
	edge := federation.Edge{
		ID: "e1", Incarnation: 7, Data: "10.0.0.1:8081", Admin: "https://10.0.0.1:9081", Peer: "10.0.0.1:7443",
		Locality: federation.Locality{Cluster: "c", Zone: "az1", Region: "east"},
		Entry: federation.Entry{Role: "standby", Port: 443, Weight: 50, TLS: true, Addresses: federation.AddressesOf(
			[]netip.Addr{netip.MustParseAddr("203.0.113.5"), netip.MustParseAddr("2001:db8::5")})},
	}
	if got, name, err := decodeMeta(encodeMeta("grayfed", &edge)); err != nil || name != "grayfed" || got != edge {
		t.Errorf("meta %+v of %s, %v", got, name, err)
	}
}

// TestEntries: what is beyond its bounds is refused, and a role of a later
// version is no entry.
func TestEntries(t *testing.T) {
	address := netip.MustParseAddr("203.0.113.5").AsSlice()
	good := func() []byte {
		return appendBytes(appendNumber(appendNumber(nil, tagEntryPort, 443), tagEntryWeight, 50), tagEntryAddress, address)
	}
	if e, err := decodeEntry(appendNumber(good(), tagEntryRole, 1)); err != nil || e.Role != "primary" {
		t.Errorf("good: %+v, %v", e, err)
	}
	if e, err := decodeEntry(appendNumber(good(), tagEntryRole, 3)); err != nil || e != (federation.Entry{}) {
		t.Errorf("of a later version: %+v, %v", e, err)
	}
	many := appendNumber(good(), tagEntryRole, 1)
	for range federation.MaxAddresses {
		many = appendBytes(many, tagEntryAddress, address)
	}
	for what, body := range map[string][]byte{
		"port":       appendNumber(good(), tagEntryPort, 1<<16),
		"weight":     appendNumber(good(), tagEntryWeight, federation.MaxWeight+1),
		"address":    appendBytes(good(), tagEntryAddress, []byte("12345")),
		"addresses":  many,
		"no address": appendNumber(appendNumber(appendNumber(nil, tagEntryPort, 443), tagEntryWeight, 50), tagEntryRole, 1),
		"no port":    appendBytes(appendNumber(appendNumber(nil, tagEntryWeight, 50), tagEntryRole, 1), tagEntryAddress, address),
	} {
		if e, err := decodeEntry(body); !errors.Is(err, errMalformed) {
			t.Errorf("%s: %+v, %v", what, e, err)
		}
	}
}

func TestUnknownFieldsAreSkippedAndKept(t *testing.T) {
	r := testRecord("u1", 5, federation.Unhealthy)
	r.raw = appendText(r.raw, 99, "of a later version")
	d := delta{origin: testOrigin, record: r}
	body := appendText(d.append(nil), 98, "another")
	got, err := decodeDelta(body)
	if err != nil || got.record.key != r.key || got.record.status != federation.Unhealthy {
		t.Fatalf("delta %+v, %v", got, err)
	}
	if !bytes.Equal(got.record.raw, r.raw) || got.record.sum() != r.sum() {
		t.Error("the unknown field of a record was lost")
	}
	b, err := decodeBeat(appendText(samples()["beat"][headerLength:], 97, "later"))
	if err != nil || b.seq != 3 {
		t.Errorf("beat %+v, %v", b, err)
	}
}

func TestUnknownStatusIsUnknown(t *testing.T) {
	r := testRecord("u1", 5, 200)
	if got, err := decodeRecord(r.raw); err != nil || got.status != federation.HealthUnknown {
		t.Errorf("record %+v, %v", got, err)
	}
}

func TestMalformedMessages(t *testing.T) {
	name := nameHash(defaultName)
	long := make([]byte, 200)
	for i := range long {
		long[i] = 'a'
	}
	origin := appendOrigin(nil, testOrigin)
	for what, body := range map[string][]byte{
		"no origin":          appendNumber(nil, tagBeatSeq, 1),
		"no sequence":        origin,
		"empty edge":         appendNumber(appendNumber(nil, tagIncarnation, 1), tagBeatSeq, 1),
		"ill-formed edge":    appendNumber(appendOrigin(nil, testOriginNamed("../etc")), tagBeatSeq, 1),
		"long edge":          appendNumber(appendOrigin(nil, testOriginNamed(string(long))), tagBeatSeq, 1),
		"number of 11 bytes": appendBytes(origin, tagBeatSeq, bytes.Repeat([]byte{0xff}, 11)),
		"trailing in number": appendBytes(origin, tagBeatSeq, []byte{1, 1}),
		"negative revision":  appendNumber(appendNumber(origin, tagBeatSeq, 1), tagBeatRevision, 1<<63),
		"endless lag":        appendNumber(appendNumber(origin, tagBeatSeq, 1), tagBeatLag, 1<<62),
		"control in digest":  appendText(appendNumber(origin, tagBeatSeq, 1), tagBeatDigest, "a\nb"),
		"long digest":        appendText(appendNumber(origin, tagBeatSeq, 1), tagBeatDigest, string(long)),
		"length beyond end":  append(append([]byte(nil), origin...), 9, 0xff, 0xff, 0x03),
		"tag cut":            append(append([]byte(nil), origin...), 0xff),
	} {
		if b, err := decodeBeat(body); !errors.Is(err, errMalformed) {
			t.Errorf("%s: beat %+v, %v", what, b, err)
		}
	}
	for what, r := range map[string]record{
		"no key":        {version: 1},
		"no version":    {key: subject},
		"bad percent":   {key: subject, version: 1, percent: 101},
		"spaces in key": {key: federation.Key{Service: "a b", ID: "c"}, version: 1},
	} {
		r.encode()
		if got, err := decodeRecord(r.raw); !errors.Is(err, errMalformed) {
			t.Errorf("%s: record %+v, %v", what, got, err)
		}
	}
	above := set{origin: testOrigin, version: 1, records: []record{testRecord("u1", 2, federation.Unhealthy)}}
	if _, err := decodeSet(above.append(nil)); !errors.Is(err, errMalformed) {
		t.Errorf("record above its set: %v", err)
	}
	for what, c := range map[string]struct {
		message []byte
		want    error
	}{
		"short":            {[]byte{schema, 1}, errMalformed},
		"later schema":     {append([]byte{2, 2}, make([]byte, 8)...), errSchema},
		"other federation": {newMessage(kindBeat, name+1), errForeign},
	} {
		if _, _, err := readHeader(c.message, name); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func testOriginNamed(edge string) origin { return origin{edge: edge, incarnation: 1} }

// offline is a gossip that knows one edge and has not been run.
func offline(t testing.TB) *Gossip {
	g, err := New(Options{Self: federation.Edge{ID: "e0", Incarnation: 1}, Bind: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	g.membership.update("e1", func(c *change) {
		c.alive, c.edge = true, federation.Edge{ID: "e1", Incarnation: testOrigin.incarnation}
	})
	g.takeMembership(time.Now())
	g.effects = effects{}
	return g
}

// FuzzMessage: whatever comes, nothing panics, and what is counted as dropped
// has changed nothing.
func FuzzMessage(f *testing.F) {
	for _, message := range samples() {
		f.Add(message)
		f.Add(message[:len(message)-1])
		f.Add(append(append([]byte(nil), message...), 0xff))
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		g := offline(t)
		now := time.Now()
		g.takeMessage(samples()["delta"], now)
		g.takeMessage(samples()["beat"], now)
		before, held := g.Edges(), g.peers["e1"].deviations.standing(now)
		dropped := func() uint64 {
			s := g.Stats()
			return s.Malformed + s.Foreign + s.Unsupported + s.Implausible
		}
		was := dropped()
		g.effects = effects{}
		g.takeMessage(message, now)
		if dropped() == was {
			return
		}
		if after := g.Edges(); !reflect.DeepEqual(before, after) {
			t.Errorf("dropped, and changed %+v to %+v", before, after)
		}
		if after := g.peers["e1"].deviations.standing(now); !reflect.DeepEqual(held, after) {
			t.Errorf("dropped, and changed %+v to %+v", held, after)
		}
		if !reflect.DeepEqual(g.effects, effects{}) {
			t.Errorf("dropped, and told %+v", g.effects)
		}
	})
}

// FuzzMeta: the metadata of any node decodes to a valid edge or to an error.
func FuzzMeta(f *testing.F) {
	f.Add(encodeMeta("grayfed", &federation.Edge{ID: "e1", Incarnation: 7, Data: "10.0.0.1:1"}))
	f.Fuzz(func(t *testing.T, data []byte) {
		edge, _, err := decodeMeta(data)
		if err == nil && (!federation.ValidName(edge.ID) || edge.Incarnation == 0) {
			t.Errorf("decoded %+v", edge)
		}
	})
}

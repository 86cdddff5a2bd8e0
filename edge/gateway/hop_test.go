package gateway

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/grayfed/grayfed/edge/exchange"
)

func sampleHop() hop {
	return hop{
		from: "az1-edge", hops: 1, service: "users", release: "v2-beta", selects: 0xfeed, panicking: true,
		client: "2001:db8::7", hash: 1 << 63, hashed: true, host: true, not: "u-1,u-2", tries: 2,
		timeouts: exchange.Timeouts{Connect: time.Second, TLS: 2 * time.Second, Head: 3 * time.Second, Idle: time.Hour, Body: time.Microsecond},
		until:    250 * time.Millisecond, hard: time.Minute,
	}
}

func TestHopsComeBackAsTheyWere(t *testing.T) {
	for _, want := range []hop{
		sampleHop(),
		{from: "a", hops: 1, service: "s", client: unknownClient}, // the baseline, without any bound
	} {
		text := string(want.append(nil))
		if got, ok := parseHop(text); !ok || !reflect.DeepEqual(got, want) {
			t.Errorf("%s\ngot  %+v, %t\nwant %+v", text, got, ok, want)
		}
	}
	// What a later version adds is skipped.
	h := sampleHop()
	if got, ok := parseHop(string(h.append(nil)) + ";later=1"); !ok || !reflect.DeepEqual(got, h) {
		t.Errorf("with a later version's field: %+v, %t", got, ok)
	}
	// A client without an address, or with one that could say more, is unknown.
	for _, client := range []string{"", "unknown", "fe80::1%a;hops=9", "not an address"} {
		h.client = client
		if got, ok := parseHop(string(h.append(nil))); !ok || got.client != unknownClient || got.hops != 1 {
			t.Errorf("client %q: %+v, %t", client, got, ok)
		}
	}
	// No more attempts than any request may make.
	h = sampleHop()
	h.tries = 1000
	if got, ok := parseHop(string(h.append(nil))); !ok || got.tries != maxUnwritten {
		t.Errorf("%+v, %t", got, ok)
	}
	// A time that is over still is a bound, as is one that is long.
	h = sampleHop()
	h.until, h.hard = 1, 10*maxHopTime
	if got, ok := parseHop(string(h.append(nil))); !ok || got.until <= 0 || got.hard != maxHopTime {
		t.Errorf("%+v, %t", got, ok)
	}
}

func TestMalformedHops(t *testing.T) {
	h := sampleHop()
	good := string(h.append(nil))
	for what, text := range map[string]string{
		"nothing":           "",
		"no service":        strings.Replace(good, "service=users;", "", 1),
		"no edge":           strings.Replace(good, "from=az1-edge;", "", 1),
		"no subset":         strings.Replace(good, "selects=feed;", "", 1),
		"no hops":           strings.Replace(good, "hops=1;", "", 1),
		"no client":         strings.Replace(good, "client=2001:db8::7;", "", 1),
		"service twice":     good + ";service=orders",
		"later field twice": good + ";later=1;later=1",
		"ill-formed name":   strings.Replace(good, "service=users", "service=../users", 1),
		"ill-formed tag":    strings.Replace(good, "release=v2-beta", "release=v2 beta", 1),
		"no hop":            strings.Replace(good, "hops=1", "hops=0", 1),
		"negative hop":      strings.Replace(good, "hops=1", "hops=-1", 1),
		"client is a name":  strings.Replace(good, "client=2001:db8::7", "client=localhost", 1),
		"negative time":     strings.Replace(good, "until=250000", "until=-1", 1),
		"time is no number": strings.Replace(good, "until=250000", "until=1s", 1),
		"no try":            strings.Replace(good, "tries=2", "tries=0", 1),
		"negative try":      strings.Replace(good, "tries=2", "tries=-1", 1),
		"hash is no number": strings.Replace(good, "hash=8000000000000000", "hash=x", 1),
		"no value":          good + ";later=",
		"no pair":           good + ";later",
	} {
		if got, ok := parseHop(text); ok {
			t.Errorf("%s: taken for %+v", what, got)
		}
	}
}

func TestVerdictsComeBackAsTheyWere(t *testing.T) {
	for _, want := range []verdict{
		{what: hopServed, instance: "u-1"},
		{what: hopNotProcessed, reason: "no-endpoint"},
		{what: hopNotProcessed, reason: "not-reached", tried: 2},
		{what: hopFailed, instance: "u-1", timeout: true, reused: true, gateway: true},
	} {
		if got, ok := parseVerdict(string(want.append(nil))); !ok || got != want {
			t.Errorf("%+v, %t, want %+v", got, ok, want)
		}
	}
	for text, tried := range map[string]int{"1": 1, "9999": maxUnwritten, "-1": 0, "x": 0, "99999999999999999999": 0} {
		if got, ok := parseVerdict("not-processed;tried=" + text); !ok || got.tried != tried {
			t.Errorf("tried %q: %+v, %t", text, got, ok)
		}
	}
	for _, text := range []string{"", "other", ";served", "Served", "served "} {
		if got, ok := parseVerdict(text); ok {
			t.Errorf("%q is taken for %+v", text, got)
		}
	}
}

// FuzzParseHop: what is taken is what would be written, and nothing panics.
func FuzzParseHop(f *testing.F) {
	h := sampleHop()
	f.Add(string(h.append(nil)))
	f.Add("from=a;hops=1;service=s;selects=0;client=unknown")
	f.Add("from=a;hops=1;service=s;selects=0;client=unknown;until=99999999999999999999")
	f.Fuzz(func(t *testing.T, text string) {
		got, ok := parseHop(text)
		if !ok {
			return
		}
		again, ok := parseHop(string(got.append(nil)))
		if !ok || !reflect.DeepEqual(again, got) {
			t.Errorf("%q is %+v, and then %+v, %t", text, got, again, ok)
		}
		if _, ok := parseVerdict(text); ok {
			t.Errorf("%q is both", text)
		}
	})
}

package gateway

import (
	"fmt"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/grayfed/grayfed/edge/exchange"
	"github.com/grayfed/grayfed/federation"
)

func hashing(keys ...HashKey) Config {
	config := usersConfig(federation.Strict)
	config.Policies = map[string]Policy{"users": {Balance: ConsistentHash, Hash: keys}}
	return config
}

// What has the same key stays together, whatever it comes from; the first key
// that a request has decides.
func TestHashKeys(t *testing.T) {
	r := newRig(t, nil)
	r.configure(hashing(HashKey{HashHeader, "X-User"}, HashKey{HashCookie, "session"}, HashKey{HashQuery, "user"}))
	var places []place
	for n := range 8 {
		name := fmt.Sprintf("e%d", n)
		places = append(places, place{name, []string{"az1", "az2"}[n%2], "v1", answering(name)})
	}
	r.stage(places...)
	owner := func(path string, fields ...string) string {
		t.Helper()
		r.settled() // of two at once, the bound of the load sends one on
		first := r.ask("GET", path, fields...).body
		for range 4 {
			r.settled()
			if again := r.ask("GET", path, fields...).body; again != first {
				t.Fatalf("%s %v: %s, then %s", path, fields, first, again)
			}
		}
		return first
	}
	owners := make(map[string]bool)
	for n := range 30 {
		user := fmt.Sprintf("user-%d", n)
		want := owner("/a", "X-User: "+user)
		owners[want] = true
		for _, fields := range [][]string{
			{"x-user: " + user, "Cookie: session=other"},
			{"Cookie: a=b; session=" + user + "; c=d"},
		} {
			if got := owner("/b?user=another", fields...); got != want {
				t.Errorf("%v goes to %s, want %s", fields, got, want)
			}
		}
		if got := owner("/c?x=1&user=" + user); got != want {
			t.Errorf("parameter %s goes to %s, want %s", user, got, want)
		}
	}
	if len(owners) != 4 {
		t.Errorf("30 keys at %d of the 4 endpoints of this zone", len(owners))
	}
	// The twin: without a key a request goes anywhere.
	seen := make(map[string]bool)
	for range 60 {
		seen[r.ask("GET", "/d?userx=1", "Cookie: xsession=1").body] = true
	}
	if len(seen) < 4 {
		t.Errorf("requests without a key went to %d endpoints", len(seen))
	}
	// A route's own keys come before its service's.
	config := hashing(HashKey{HashHeader, "X-User"})
	config.Routes[0].Hash = []HashKey{{Source: HashClientIP}}
	r.configure(config)
	want := owner("/a", "X-User: 1")
	for n := range 20 {
		if got := owner("/a", fmt.Sprintf("X-User: %d", n)); got != want {
			t.Errorf("one client at %s and %s", got, want)
		}
	}
}

// When the owner of a key fails, another endpoint takes the request.
func TestHashedRequestsAreTriedAgain(t *testing.T) {
	r := newRig(t, patient(t))
	r.configure(hashing(HashKey{HashHeader, "X-User"}))
	r.stage(place{"a", "az1", "v1", nil}, place{"b", "az1", "v1", answering("b")}, place{"c", "az2", "v1", answering("c")})
	for n := range 20 {
		if a := r.ask("GET", "/", fmt.Sprintf("X-User: %d", n)); a.StatusCode != http.StatusOK {
			t.Errorf("key %d: %d", n, a.StatusCode)
		}
	}
}

// Keys that are not equally busy: the shares come to be those of the weights,
// by what Refresh measures.
func TestHashSharesFollowWeights(t *testing.T) {
	g, prepare, x := pipeline(t, func(c *Config, _ *Options) {
		*c = hashing(HashKey{HashHeader, "X-User"})
	})
	const keys = 400
	off := func() float64 {
		asked := make(map[string]int)
		for n := range keys * 60 {
			key := n % keys
			if n%3 == 0 {
				key %= keys / 20 // a twentieth of the keys are much busier
			}
			prepare(x)
			x.Request.Header.Del(exchange.FieldXReleaseTag)
			x.Request.Header.Add("X-User", fmt.Sprint("key-", key))
			g.Serve(x)
			asked[x.State.(*call).at.endpoint.ID]++
			g.Done(x, nil)
		}
		// The two of one zone have the same weight.
		return math.Abs(float64(asked["v1-a"])/float64(asked["v1-a"]+asked["v1-b"]) - 0.5)
	}
	now := time.Now()
	first := off()
	last := first
	for range 40 {
		for range adjustTicks {
			now = now.Add(time.Second)
			g.Refresh(now)
		}
		last = off()
	}
	t.Logf("off by %.2f%% at first, by %.2f%% at last", 100*first, 100*last)
	if first < 0.02 || last > 0.01 {
		t.Errorf("a share is off by %.2f%% after corrections, by %.2f%% before", 100*last, 100*first)
	}
}

// FuzzCookie: a cookie that net/http finds is found with the same value, unless
// it is quoted or not well formed there.
func FuzzCookie(f *testing.F) {
	for _, seed := range []string{"a=b; session=x; c=d", "session=1", "session", " session =2", "session=a=b", ";;=;session=;"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if strings.ContainsAny(text, "\x00\r\n") {
			return // no codec lets it come here (RFC 9110, section 5.5)
		}
		var header exchange.Fields
		header.Append(exchange.Field{Name: "cookie", Value: text, ID: exchange.FieldCookie})
		got := cookie(&header, "session")
		known := (&http.Request{Header: http.Header{"Cookie": {text}}}).CookiesNamed("session")
		if len(known) > 0 && known[0].Value != "" && !known[0].Quoted && got == "" {
			t.Errorf("%q: got nothing, net/http has %q", text, known[0].Value)
		}
	})
}

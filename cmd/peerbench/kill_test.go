package main

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

var (
	canaryHere  = instanceName{Version: canaryRelease, Zone: "az1", Instance: "a"}
	canaryThere = instanceName{Version: canaryRelease, Zone: "az2", Instance: "b"}
	stableHere  = instanceName{Version: stableRelease, Zone: "az1", Instance: "c"}
)

// answered is a request that was meant for and sent at one moment, in
// milliseconds around the kill at 0.
func answered(sent, done int, from instanceName) outcome {
	at := func(ms int) time.Time { return time.Unix(1000, 0).Add(time.Duration(ms) * time.Millisecond) }
	return outcome{Intended: at(sent), Queued: at(sent), Sent: at(sent), Done: at(done), From: from}
}

func failed(o outcome, post bool) outcome {
	o.Post, o.Failure, o.From = post, "502 broke off", instanceName{}
	return o
}

func TestJudgeKill(t *testing.T) {
	killed := time.Unix(1000, 0)
	gone := killed.Add(5 * time.Millisecond)
	usual := []outcome{
		answered(-20, -15, canaryHere), answered(-10, -4, canaryHere), // before
		answered(-2, 12, canaryThere), // under way
		answered(10, 16, canaryThere), answered(20, 26, canaryThere),
	}
	ms := time.Millisecond
	for _, c := range []struct {
		name string
		more []outcome
		want killRow
	}{
		{"clean", nil, killRow{Requests: 5, Before: 6 * ms, Takeover: 12 * ms, Worst: 14 * ms, UnderWay: 1}},
		{"a late answer of the killed", []outcome{answered(-1, 30, canaryHere)},
			killRow{Requests: 6, Before: 6 * ms, Takeover: 30 * ms, Worst: 31 * ms, UnderWay: 2}},
		{"a failure counts as not taken over", []outcome{failed(answered(300, 400, canaryHere), false)},
			killRow{Requests: 6, Before: 6 * ms, Takeover: 400 * ms, Worst: 100 * ms, UnderWay: 1, Failed: 1, Reasons: []string{"1 times GET: 502 broke off"}}},
		{"baseline is a wrong version", []outcome{answered(40, 50, stableHere)},
			killRow{Requests: 6, Before: 6 * ms, Takeover: 50 * ms, Worst: 14 * ms, UnderWay: 1, Wrong: 1, Reasons: []string{"1 times answered by version stable"}}},
		{"lost POST, written before the end and after it", []outcome{failed(answered(4, 6, canaryHere), true), failed(answered(6, 7, canaryHere), true)},
			killRow{Requests: 7, Before: 6 * ms, Takeover: 12 * ms, Worst: 14 * ms, UnderWay: 1, Posts: 2, Lost: 2, LostLate: 1, Reasons: []string{"2 times POST: 502 broke off"}}},
	} {
		got := judgeKill(slices.Concat(usual, c.more), "az1", killed, gone)
		reasons := slices.Equal(got.Reasons, c.want.Reasons)
		got.Reasons, c.want.Reasons = nil, nil
		if !reasons || !equalRows(got, c.want) {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

func equalRows(a, b killRow) bool {
	return a.Requests == b.Requests && a.Failed == b.Failed && a.Wrong == b.Wrong && a.Posts == b.Posts && a.Lost == b.Lost &&
		a.LostLate == b.LostLate && a.Before == b.Before && a.Takeover == b.Takeover && a.Worst == b.Worst && a.UnderWay == b.UnderWay &&
		a.Late == b.Late && a.Fault == b.Fault
}

// A stall without any answer is no takeover, however clean what follows is.
func TestSilenceIsNoTakeover(t *testing.T) {
	killed := time.Unix(1000, 0)
	got := judgeKill([]outcome{answered(-20, -15, canaryHere), answered(10, 3000, canaryThere)}, "az1", killed, killed)
	if got.Takeover != 3*time.Second {
		t.Errorf("taken over after %v, want 3s", got.Takeover)
	}
}

func TestKillThatShowsNothingIsInvalid(t *testing.T) {
	killed := time.Unix(1000, 0)
	for want, outcomes := range map[string][]outcome{
		"answered in az1 before": {answered(-20, -15, canaryThere), answered(10, 16, canaryThere)},
		"after the kill":         {answered(-20, -15, canaryHere)},
	} {
		if got := judgeKill(outcomes, "az1", killed, killed); !strings.Contains(got.Fault, want) {
			t.Errorf("fault %q, want one with %q", got.Fault, want)
		}
	}
	// Nobody of the other zone answered: the figure says that it took until the end.
	got := judgeKill([]outcome{answered(-20, -15, canaryHere), failed(answered(10, 900, canaryHere), false)}, "az1", killed, killed)
	if got.Fault != "" || got.Takeover != 900*time.Millisecond || got.Failed != 1 {
		t.Errorf("nobody took over: %+v", got)
	}
}

// What waits for a server that stalls is as late as it was kept waiting, not as
// late as it was answered once it was sent.
func TestOpenLoopCountsFromTheIntendedMoment(t *testing.T) {
	release := make(chan struct{})
	var held, posts atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if held.Add(1) <= openLoopConnections {
			<-release
		}
		if r.Method == http.MethodPost {
			posts.Add(1)
			w.WriteHeader(http.StatusBadGateway)
			_, _ = w.Write([]byte(`{"detail":"it broke","reason":"upstream-failed"}`))
			return
		}
		instanceHandler(canaryHere, 0).ServeHTTP(w, r)
	}))
	defer server.Close()
	const count = openLoopConnections + 50
	load := openLoop{To: netip.MustParseAddrPort(server.Listener.Addr().String()), Rate: 20000, Count: count, Posts: true}
	result := make(chan []outcome)
	begun := make(chan time.Time, 1)
	go func() { result <- load.run(context.Background(), func(at time.Time) { begun <- at }) }()
	start := <-begun
	for held.Load() < openLoopConnections {
		time.Sleep(time.Millisecond)
	}
	const stall = 200 * time.Millisecond
	time.Sleep(time.Until(start.Add(stall)))
	close(release)
	outcomes := <-result
	waited := 0
	for n := range outcomes {
		o := &outcomes[n]
		if want := start.Add(time.Duration(n) * time.Second / 20000); !o.Intended.Equal(want) {
			t.Fatalf("request %d is meant for %v, want %v", n, o.Intended.Sub(start), want.Sub(start))
		}
		if o.Sent.After(start.Add(stall)) {
			waited++
			if o.latency() < stall-o.Intended.Sub(start) {
				t.Errorf("request %d waited from %v to %v, and counts as %v", n, o.Intended.Sub(start), o.Done.Sub(start), o.latency())
			}
		}
		switch {
		case o.Post != (n%2 == 1):
			t.Fatalf("request %d: POST %v", n, o.Post)
		case o.Post && o.Failure != "502 it broke (upstream-failed)", !o.Post && (o.Failure != "" || o.From != canaryHere):
			t.Fatalf("request %d: %+v", n, *o)
		}
	}
	if waited < 50 {
		t.Errorf("%d requests waited for a connection, want 50", waited)
	}
	if posts.Load() != count/2 {
		t.Errorf("%d POSTs arrived, want %d", posts.Load(), count/2)
	}
}

func TestOpenLoopEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	load := openLoop{To: netip.MustParseAddrPort("127.0.0.1:1"), Rate: 1, Count: 1000}
	if outcomes := load.run(ctx, func(time.Time) {}); !outcomes[0].Sent.IsZero() {
		t.Error("a request was sent")
	}
}

func TestAnswerOfNobodyIsAFailure(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("hello")) }))
	defer server.Close()
	w := &wire{to: netip.MustParseAddrPort(server.Listener.Addr().String()), limit: callTimeout}
	var o outcome
	if o.ask(w); !strings.Contains(o.Failure, `an answer of nobody: "hello"`) {
		t.Errorf("failure %q", o.Failure)
	}
	if err := w.close(); err != nil {
		t.Error(err)
	}
	server.Close()
	if o.ask(w); !strings.Contains(o.Failure, "no answer") {
		t.Errorf("failure %q", o.Failure)
	}
}

func TestInstanceAnswersAndIsKilled(t *testing.T) {
	lockThread(t)
	instance, err := startInstance(t.TempDir(), canaryHere, time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{to: instance.addr, limit: callTimeout}
	for _, post := range []bool{true, false} {
		o := outcome{Post: post}
		if o.ask(w); o.Failure != "" || o.From != canaryHere || o.latency() < time.Millisecond {
			t.Errorf("POST %v: %+v", post, o)
		}
	}
	var answer any
	client := &http.Client{Timeout: callTimeout, Transport: &http.Transport{DisableKeepAlives: true}}
	if err := getJSON(context.Background(), client, "http://"+instance.addr.String()+"/healthz", &answer); err != nil {
		t.Error(err)
	}
	killed, gone, err := killAll([]*child{instance.child})
	if err != nil || running(instance.pid) || gone.Before(killed) {
		t.Errorf("after the kill: running %v, %v, %v", running(instance.pid), gone.Sub(killed), err)
	}
	var o outcome
	if o.ask(w); o.Failure == "" {
		t.Error("the killed answers")
	}
	if _, _, err := killAll([]*child{instance.child}); err == nil {
		t.Error("a process that is gone already is killed without an error")
	}
}

var errStandIn = errors.New("stand-in")

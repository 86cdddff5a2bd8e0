package gateway

import (
	"testing"

	"github.com/grayfed/grayfed/federation"
)

// silence has an origin take no connection any more, while those that stand
// stay as they are.
func (o *origin) silence() { _ = o.listener.Close() }

func TestUnreachable(t *testing.T) {
	// eject has requests fail to connect to "a" until it is ejected; spent: what
	// they add to the retry budget is taken out of it.
	eject := func(r *rig, spent bool) {
		eventually(t, "a is ejected", func() bool {
			if spent {
				for r.gateway.routing.Load().services["users"].budget.take() {
				}
			}
			r.send(request{method: "GET", tag: "v2-beta"})
			return r.endpoint("a").tracker.Ejected()
		})
	}

	t.Run("what waits is tried elsewhere", func(t *testing.T) {
		r, origins := zoneStage(t)
		get := r.asking(origins["a"], request{method: "GET", tag: "v2-beta"})
		put := r.asking(origins["a"], request{method: "PUT", tag: "v2-beta", body: "hello"})
		origins["a"].silence()
		eject(r, false)
		(<-get).expect(t, 200, "moved")
		(<-put).expect(t, 200, "moved")
		if n := origins["a"].heads.Load(); n != 2 {
			t.Errorf("a was asked %d times", n)
		}
	})

	t.Run("what is not replayable waits on", func(t *testing.T) {
		r, origins := zoneStage(t)
		post := r.asking(origins["a"], request{method: "POST", tag: "v2-beta", body: "hello"})
		origins["a"].silence()
		eject(r, false)
		if n := r.endpoint("a").InFlight(); n != 1 {
			t.Errorf("%d wait", n)
		}
		origins["a"].kill()
		(<-post).expect(t, 502, "upstream-failed")
	})

	t.Run("where there is nothing else, all waits on", func(t *testing.T) {
		r := newRig(t, patient(t))
		r.configure(usersConfig(federation.Strict))
		waits, open := gate("after all")
		origins := r.stage(place{"a", "az2", "v2", waits}, place{"c", "az1", "v1", answering("baseline")})
		get := r.asking(origins["a"], request{method: "GET", tag: "v2-beta"})
		origins["a"].silence()
		eject(r, false)
		close(open)
		(<-get).expect(t, 200, "after all")
	})

	t.Run("what no retry is left for waits on", func(t *testing.T) {
		r := newRig(t, patient(t))
		config := usersConfig(federation.Strict)
		config.Routes[0].Retries = 0
		r.configure(config)
		waits, open := gate("after all")
		origins := r.stage(
			place{"a", "az2", "v2", waits}, place{"b", "az3", "v2", answering("moved")}, place{"c", "az1", "v1", answering("baseline")},
		)
		get := r.asking(origins["a"], request{method: "GET", tag: "v2-beta"})
		origins["a"].silence()
		eject(r, false)
		close(open)
		(<-get).expect(t, 200, "after all")
	})

	t.Run("without a budget all waits on, until the zone is lost", func(t *testing.T) {
		r, origins := zoneStage(t)
		get := r.asking(origins["a"], request{method: "GET", tag: "v2-beta"})
		origins["a"].silence()
		eject(r, true)
		if n := r.endpoint("a").InFlight(); n != 1 {
			t.Errorf("%d wait", n)
		}
		r.gateway.SetZoneLost("az2", true)
		(<-get).expect(t, 200, "moved")
	})
}

package gateway

import (
	"strings"
	"testing"

	"github.com/grayfed/grayfed/federation"
)

func TestForward(t *testing.T) {
	r := newRig(t, nil)
	stable, canary := newOrigin(t, answering("stable")), newOrigin(t, answering("canary"))
	r.configure(usersConfig(federation.Strict))
	r.register(instance("v1-a", "az1", "v1", stable.address), instance("v2-a", "az1", "v2", canary.address))

	r.ask("GET", "/users/1").expect(t, 200, "stable")
	a := r.ask("GET", "/users/1", tagged, explain)
	a.expect(t, 200, "canary")
	if got := a.Header.Get("x-gray-decision"); got != "rung=canary-here; reason=in-release; release=v2-beta; zone=az1; instance=v2-a" {
		t.Errorf("decision %q", got)
	}
	if head := canary.last(); !strings.Contains(head, "\r\n"+tagged+"\r\n") {
		t.Errorf("the tag did not go on: %q", head)
	}
}

package edge

import (
	"fmt"
	"testing"
	"time"

	"github.com/grayfed/grayfed/failover/consul/consultest"
)

// TestStandbyStartsDuringTheLoss: a standby that starts after the primaries have
// died, and etcd with them, has never met them. It goes in all the same, and not
// beside a primary that lives.
func TestStandbyStartsDuringTheLoss(t *testing.T) {
	cluster := consultest.Start(t, 1, consultest.Options{})
	etcd, stopEtcd := startEtcd(t)
	p1, p2, p3 := failoverSettings(t, "az1", etcd), failoverSettings(t, "az2", etcd), failoverSettings(t, "az3", etcd)
	p3.Failover.Role, p3.Failover.Primaries = "standby", []string{"az1", "az2"}
	meet(p1, p2, p3)
	withConsul(cluster, p1, p2, p3)
	impatient := func(e *Edge) { e.failover.sightings.meetWithin = 2 * time.Second }
	one, two := startChild(t, p1), startChild(t, p2)
	one.ready()
	two.ready()
	eventually(t, "the first is in Consul", isInConsul(t, cluster, "az1-edge", 50))
	eventually(t, "the second too", isInConsul(t, cluster, "az2-edge", 50))

	two.kill()
	three := start(t, p3, impatient)
	three.ready()
	eventually(t, "one is dead by all means, one lives", func() error {
		status, err := three.api.Failover(t.Context())
		if err != nil {
			return err
		}
		for n, want := range []string{"alive", "dead"} {
			if e := status.Entries[n]; e.Consul != want || e.Gossip != want || e.Probe != want {
				return fmt.Errorf("it knows %s", toJSON(status.Entries))
			}
		}
		return nil
	})
	if status, err := three.api.Failover(t.Context()); err != nil || status.Decision.In {
		t.Errorf("the standby is in beside a primary: %s, %v", toJSON(status), err)
	}
	three.stop()

	one.kill()
	stopEtcd()
	again := start(t, p3, impatient)
	eventually(t, "the standby stands in", again.answers(map[string]int{"203.0.113.3": 50}))
	eventually(t, "in Consul too", isInConsul(t, cluster, "az3-edge", 50))
}

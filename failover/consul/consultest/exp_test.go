package consultest

import (
	"fmt"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
)

func TestExp(t *testing.T) {
	s := time.Now()
	c := Start(t, 1, Options{})
	t.Log("start1", time.Since(s))
	cl := c.Client(0)
	reg := func(w int, status string) {
		err := cl.Agent().ServiceRegisterOpts(&api.AgentServiceRegistration{ID: "g-a", Name: "g", Port: 80, Weights: &api.AgentWeights{Passing: w, Warning: w}, Checks: api.AgentServiceChecks{{CheckID: "g-a-held", Name: "x", TTL: "10s", Status: status}}}, api.ServiceRegisterOpts{ReplaceExistingChecks: true})
		if err != nil { t.Fatal(err) }
	}
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		var idx uint64
		last := ""
		for {
			select { case <-stop: return; default: }
			es, m, err := cl.Health().Service("g", "", false, &api.QueryOptions{RequireConsistent: true, WaitIndex: idx, WaitTime: 300*time.Millisecond})
			if err != nil { t.Log(err); time.Sleep(50*time.Millisecond); continue }
			idx = m.LastIndex
			cur := ""
			for _, e := range es { cur += fmt.Sprint(e.Service.ID, " w", e.Service.Weights.Passing, " m", e.Service.Meta); for _, k := range e.Checks { cur += " "+k.CheckID+"="+k.Status+"/"+k.Output } }
			if cur != last { t.Log(time.Since(s), idx, m.KnownLeader, cur); last = cur }
		}
	}()
	p := func(w string) { time.Sleep(500*time.Millisecond); t.Log(time.Since(s), w) }
	p("reg 50 critical"); reg(50, "critical")
	p("pass"); t.Log(cl.Agent().UpdateTTL("g-a-held", "in", "passing"))
	p("rereg 60 status passing"); reg(60, "passing")
	p("rereg 70 critical"); reg(70, "critical")
	p("rereg 75 none"); reg(75, "")
	p("pass"); t.Log(cl.Agent().UpdateTTL("g-a-held", "in2", "passing"))
	p("tamper catalog"); _, err := cl.Catalog().Register(&api.CatalogRegistration{Node: "server-1", Address: c.servers[0].address, Service: &api.AgentService{ID: "g-a", Service: "g", Port: 81, Weights: api.AgentWeights{Passing: 999, Warning: 1}}, SkipNodeUpdate: true}, nil); t.Log(err)
	p("rereg 75"); reg(75, "")
	p("unknown"); t.Log(cl.Agent().UpdateTTL("g-b-held", "in2", "passing"))
	p("dereg unknown"); t.Log(cl.Agent().ServiceDeregister("nope"))
	p("dereg"); t.Log(cl.Agent().ServiceDeregister("g-a"))
	p("")
	close(stop); <-done
}
func TestFive(t *testing.T) {
	s := time.Now()
	c := Start(t, 5, Options{})
	t.Log("start5", time.Since(s))
	c.Kill(0); c.Kill(1)
	s = time.Now()
	c.WaitLeader(4)
	t.Log("leader after 2", time.Since(s))
}
func TestACLTLS(t *testing.T) {
	s := time.Now()
	c := Start(t, 1, Options{ACL: true, TLS: true})
	t.Log("start acl", time.Since(s), c.Token("x", "node_prefix \"\" { policy = \"read\" }"))
}

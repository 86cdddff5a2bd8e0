package main

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"
)

// federationBench is a bench with stand-ins for grayfed.
func federationBench(t *testing.T, s settings) *bench {
	t.Helper()
	b := testBench(t)
	s.Workers = 2
	b.settings = s
	return b
}

// met reports figures that miss their goal; stand-ins are to meet those of
// counting, whatever the machine does to their times.
func met(t *testing.T, r *report) {
	t.Helper()
	for _, f := range r.Figures {
		if f.Missed && f.Unit == "" {
			t.Errorf("%s is %v", f.Name, f.Measured)
		}
	}
	if len(r.Figures) == 0 || r.invalid() != 0 {
		t.Errorf("%d figures, faults: %v", len(r.Figures), r.Faults)
	}
}

func TestFederationIsStartedJoinedAndEnded(t *testing.T) {
	b := federationBench(t, settings{})
	f, err := b.startFederation(context.Background(), threeZones(), releaseDocuments(plainRoutes()))
	if err != nil {
		t.Fatal(err)
	}
	if len(f.edges) != 3 || f.edges[2].Zone != "az3" || f.edges[2].Region != "south" || len(f.edges[0].Peers) != 2 {
		t.Errorf("edges %+v", f.edges)
	}
	if err := f.alive(); err != nil {
		t.Error(err)
	}
	// An edge that knows fewer than there are has not joined.
	f.edges = append(f.edges, f.edges[0])
	if err := f.joined(context.Background(), f.edges[0]); err == nil || !strings.Contains(err.Error(), "sees 3 of 4 edges") {
		t.Errorf("joined: %v", err)
	}
	f.edges = f.edges[:3]
	if err := f.end(); err != nil {
		t.Error(err)
	}
	for _, p := range []*child{f.etcd, f.edges[0].child, f.edges[1].child, f.edges[2].child} {
		if running(p.pid) {
			t.Errorf("%s outlives the federation", p.name)
		}
	}
	if err := f.alive(); err == nil {
		t.Error("an ended federation is alive")
	}
}

func TestFederationThatDoesNotStartIsReported(t *testing.T) {
	b := federationBench(t, settings{})
	b.programs[peerGrayfed] = "/bin/false"
	if _, err := b.startFederation(context.Background(), threeZones(), grayfedDocuments{}); err == nil || !strings.Contains(err.Error(), "etcd ended by itself") {
		t.Errorf("a grayfed that ends at once: %v", err)
	}
}

func TestRegisterMode(t *testing.T) {
	b := federationBench(t, settings{Mode: modeRegister, Registrations: 20, RegistrationRate: 200})
	r := &report{Mode: modeRegister}
	if err := b.register(context.Background(), r); err != nil {
		t.Fatal(err)
	}
	met(t, r)
	if len(r.Spreads) != 10 || r.Spreads[4].Count != 20 || r.Spreads[9].P50 <= 0 {
		t.Errorf("%+v", r.Spreads)
	}
}

func TestKillMode(t *testing.T) {
	b := federationBench(t, settings{Mode: modeKill, Rounds: 1, Rate: 100, Duration: 2 * time.Second})
	r := &report{Mode: modeKill}
	if err := b.kill(context.Background(), r); err != nil {
		t.Fatal(err)
	}
	met(t, r)
	if len(r.Kills) != 2 || r.Kills[0].Requests != 200 || r.Kills[0].Posts != 0 || r.Kills[1].Posts != 100 || r.Kills[1].Takeover <= 0 {
		t.Errorf("%+v", r.Kills)
	}
}

func TestInstancesMode(t *testing.T) {
	b := federationBench(t, settings{Mode: modeInstances, Rounds: 2, Instances: 50})
	r := &report{Mode: modeInstances}
	if err := b.instances(context.Background(), r); err != nil {
		t.Fatal(err)
	}
	met(t, r)
	if len(r.Spreads) != 2 || r.Spreads[0].Count != 2 || r.Spreads[1].Max <= 0 {
		t.Errorf("%+v", r.Spreads)
	}
	// An edge that is ready without all of its instances is not ready.
	if err := restartWith(t, b, 49); err == nil || !strings.Contains(err.Error(), "ready, but az1's edge knows 49 of 50") {
		t.Errorf("an edge that lost an instance: %v", err)
	}
}

// restartWith restarts an edge that is to know 50 instances and knows fewer.
func restartWith(t *testing.T, b *bench, known int) (err error) {
	t.Helper()
	ctx := context.Background()
	f, err := b.startFederation(ctx, threeZones()[:1], grayfedDocuments{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := f.end(); err != nil {
			t.Error(err)
		}
	}()
	if err := f.registerMany(ctx, f.edges[0], known); err != nil {
		t.Fatal(err)
	}
	_, err = f.restarts(ctx, f.edges[0], 50)
	return err
}

func TestFarInstances(t *testing.T) {
	addresses := make(map[string]bool)
	canaries := make(map[int]int)
	const count = 100000
	for n := range count {
		i := farInstance(n)
		host, _, err := net.SplitHostPort(i.Address)
		if err != nil || net.ParseIP(host) == nil || !net.ParseIP(host).IsPrivate() {
			t.Fatalf("address %s", i.Address)
		}
		addresses[i.Address] = true
		if i.Version == canaryRelease {
			canaries[n%instanceServices]++
		}
	}
	if len(addresses) != count || len(canaries) != instanceServices || canaries[3] != count/instanceServices/10 {
		t.Errorf("%d addresses, canaries %v", len(addresses), canaries)
	}
}

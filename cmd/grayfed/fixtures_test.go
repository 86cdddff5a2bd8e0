package main

import (
	"time"

	"github.com/grayfed/grayfed/edge/api"
	"github.com/grayfed/grayfed/federation"
)

var theFederation = api.Federation{
	Edge: "az1-edge", Revision: 42, Digest: "8c1f0e9d7b6a5c4d3e2f1a0b9c8d7e6f", Clock: 977, Instances: 4, Unhealthy: 1,
	Edges: []api.Edge{
		{ID: "az1-edge", Zone: "az1", Region: "east", Status: "alive", Incarnation: 1, Data: "127.0.0.1:8081", Admin: "http://127.0.0.1:9081",
			Revision: 42, Clock: 977, Digest: "8c1f0e9d7b6a5c4d3e2f1a0b9c8d7e6f", Config: "878f63c87b3700886194d774e296796a", LagMS: 12},
		{ID: "az2-edge", Zone: "az2", Region: "east", Status: "dead", Incarnation: 1,
			Revision: 40, Clock: 970, Digest: "1111111111111111", Config: "878f63c87b3700886194d774e296796a", LagMS: 61500},
		{ID: "az3-edge", Zone: "az3", Region: "south", Status: "unknown"},
	},
	Registry: api.Registry{
		Synced: true, StaleSince: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), LagMS: 2500, Registered: true, Owned: 2, Orphans: 1, Queued: 1,
		Error: "watch: connection refused",
	},
	Documents: api.Documents{
		Hash: "878f63c87b3700886194d774e296796a", Error: `documents.yaml:3:5: spec.path: found "x", allowed a path`,
		Warnings: []string{"documents.yaml:9:1: [0].upstream: found a service that no document declares"},
	},
}

var theServices = api.Services{Revision: 42, Services: []api.Service{
	{Name: "idle-service", Zones: map[string]int{}, Versions: map[string]int{}, Baseline: &federation.Selector{}},
	{Name: "user-service", Instances: 4, Usable: 2, Unhealthy: 1, Draining: 1,
		Zones: map[string]int{"az2": 1, "az1": 3}, Versions: map[string]int{"v1": 2, "v2-beta": 1, "": 1},
		Baseline: &federation.Selector{Version: "v1", Tags: map[string]string{"track": "stable", "a": "b"}},
		Releases: []string{"v2-beta", "v3"}},
}}

var theInstances = []api.Instance{
	{Service: "user-service", ID: "az1-v1", Zone: "az1", Region: "east", Address: "10.0.0.1:8080", Version: "v1", Weight: 100, Protocol: "http/1.1",
		TTL: federation.Duration(5 * time.Second), Owner: "az1-edge", Stamp: federation.Stamp{Lamport: 7, Origin: "az1-edge"}, Revision: 12,
		Health: api.Health{Status: "healthy", Percent: 100, Source: "own"}, Usable: true, InFlight: 3},
	{Service: "user-service", ID: "az1-v2-beta", Zone: "az1", Region: "east", Address: "10.0.0.2:8080", Version: "v2-beta", Weight: 50, Draining: true,
		Owner: "az1-edge", Health: api.Health{Status: "recovering", Percent: 40, Source: "zone"}},
	{Service: "user-service", ID: "odd", Zone: "az1", Address: "[fd00::7]:80", Owner: "az9-edge", Orphaned: true,
		Health: api.Health{Status: "unhealthy", Source: "majority"}},
	{Service: "user-service", ID: "az2-v1", Zone: "az2", Region: "east", Address: "10.0.1.1:8080", Version: "v1", Weight: 100, Owner: "az2-edge",
		Tags: map[string]string{"number": "1", "yes": "true"}, Health: api.Health{Status: "unknown", Source: "none"}, Usable: true},
}

var theReleases = api.Releases{Revision: 42, Releases: []api.Release{
	{Name: "v2-beta", Fallback: federation.Permissive, Services: map[string]api.Canaries{
		"user-service": {Selector: federation.Selector{Version: "v2-beta"}, Instances: 2, Usable: 1, Zones: map[string]int{"az1": 0, "az2": 1}},
		"order":        {Selector: federation.Selector{Tags: map[string]string{"track": "canary"}}, Zones: map[string]int{}},
	}},
	{Name: "v3", Fallback: federation.Strict, Paused: true, Services: map[string]api.Canaries{
		"user-service": {Selector: federation.Selector{Version: "v3"}, Zones: map[string]int{}},
	}},
}}

var theRoutes = api.Routes{Config: "878f63c87b3700886194d774e296796a", Routes: []api.Route{
	{ID: "api-v1-users", Path: "/api/v1/users/**", Methods: []string{"GET", "POST"}, Upstream: "user-service", Service: "user-service", Tags: "any", Explain: true,
		RateLimit: &api.RateLimit{RPM: 1000, Burst: 200}, Timeouts: api.Timeouts{Total: federation.Duration(3 * time.Second)}, Retries: 1, File: "documents.yaml", Line: 17},
	{ID: "beta", Host: "*.example.com", Path: "/beta", Priority: 10, Upstream: "http://127.0.0.1:80", Service: "127.0.0.1:80", Tags: "trusted",
		Headers: []api.Match{{Name: "x-tenant", Exact: "acme"}, {Name: "x-beta", Present: new(false)}, {Name: "x-any", Present: new(true)}},
		Query:   []api.Match{{Name: "debug", Regex: "[01]"}}},
}}

var explanation = api.Explanation{
	Outcome: api.OutcomeRouted, Route: "api-v1-users", Service: "user-service", Release: "v2-beta", Subset: "v2-beta",
	Rung: "canary-elsewhere", Zone: "az2", Reason: "in-release",
	Path: "/api/v1/users/42", UpstreamPath: "/users/42", UpstreamHost: "users.internal",
	Endpoint: &api.Candidate{ID: "az2-v2-beta", Zone: "az2", Address: "10.0.1.2:8080", Version: "v2-beta", Rung: "canary-elsewhere", Through: "edge-2"},
	Steps: []api.Step{
		{Rung: "canary-here", Subset: "v2-beta", Zone: "az1", Registered: 2, Draining: 1, Unhealthy: 1, Why: "1 drains, 1 is unhealthy"},
		{Rung: "canary-elsewhere", Subset: "v2-beta", Zone: "az2", SharePercent: 66.6666, Registered: 2, Usable: 1, Full: 1, Through: "edge-2", Why: "taken"},
		{Rung: "canary-elsewhere", Subset: "v2-beta", Zone: "az3", SharePercent: 33.3333, Registered: 1, Lost: true},
		{Rung: "baseline-here", Subset: "baseline", Zone: "az1", Registered: 1, Usable: 1, Why: "not reached"},
	},
	Next: []api.Candidate{
		{ID: "az1-v1", Zone: "az1", Address: "10.0.0.1:8080", Version: "v1", Rung: "baseline-here"},
		{ID: "odd", Zone: "az1", Address: "[fd00::7]:80", Rung: "baseline-here"},
	},
}

var theFailover = api.Failover{
	Edge: "az1-edge", Zone: "az1", Role: "primary",
	Decision: &api.FailoverDecision{In: true, Weight: 50, Reason: "serving", Since: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)},
	Consul:   api.FailoverConsul{Configured: true, Registered: true, ConfirmedMS: 4200, Error: "agent: connection refused"},
	DNS:      &api.FailoverDNS{Domain: "example.com", Address: "127.0.0.1:8600", TTLMS: 1000},
	Entries: []api.FailoverEntry{
		{Edge: "az1-edge", Zone: "az1", Role: "primary", Addresses: []string{"203.0.113.5", "2001:db8::5"}, Port: 443, Weight: 50,
			Consul: "alive", Gossip: "alive", Probe: "alive", SharePercent: 58.8},
		{Edge: "az2-edge", Zone: "az2", Role: "primary", Addresses: []string{"203.0.113.6"}, Port: 443, Weight: 35,
			Consul: "unknown", Gossip: "alive", Probe: "unknown", SharePercent: 41.2},
		{Edge: "az3-edge", Zone: "az3", Role: "standby", Addresses: []string{"203.0.113.7"}, Port: 443, Weight: 50,
			Consul: "dead", Gossip: "alive", Probe: "alive"},
	},
}

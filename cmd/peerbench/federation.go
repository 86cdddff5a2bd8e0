package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"
)

const (
	callTimeout = 10 * time.Second
	edgeAlive   = "alive" // an edge's status in GET /v1/federation
)

// threeZones are the places of a benchmarked federation: two zones of one
// region, and one of another.
func threeZones() []place {
	return []place{{"az1", "east"}, {"az2", "east"}, {"az3", "south"}}
}

// member is one edge of a federation.
type member struct {
	*child
	grayfedEdge
	config string
}

// federation is an etcd and edges on it that know each other.
type federation struct {
	bench  *bench
	dir    string
	etcd   *child
	edges  []*member
	others []*child // ended before the edges
	client *http.Client
}

// startFederation starts an etcd and an edge in each of the places, and waits
// until all are ready and alive to each other.
func (b *bench) startFederation(ctx context.Context, places []place, documents grayfedDocuments) (_ *federation, err error) {
	dir, err := os.MkdirTemp(b.dir, "federation-")
	if err != nil {
		return nil, fmt.Errorf("make a folder for the federation: %w", err)
	}
	ports, err := freePorts(2 + 3*len(places))
	if err != nil {
		return nil, err
	}
	f := &federation{bench: b, dir: dir, client: &http.Client{
		Timeout:   callTimeout,
		Transport: &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true},
	}}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.end())
		}
	}()
	shared := filepath.Join(dir, "documents.yaml")
	if err := renderTo(shared, "grayfed-documents.yaml.tmpl", documents); err != nil {
		return nil, err
	}
	if f.etcd, err = b.startEtcd(ctx, dir, ports[0], ports[1]); err != nil {
		return nil, err
	}
	gossip := make([]netip.AddrPort, len(places))
	for n := range places {
		gossip[n] = ports[2+3*n]
	}
	for n, at := range places {
		peers := append(append([]netip.AddrPort{}, gossip[:n]...), gossip[n+1:]...)
		m := &member{config: filepath.Join(dir, at.Zone+".yaml"), grayfedEdge: grayfedEdge{
			place: at, Listen: ports[3+3*n], Admin: ports[4+3*n], Gossip: gossip[n], Etcd: ports[0], Peers: peers,
			DataDir: filepath.Join(dir, at.Zone), Documents: shared,
		}}
		if err := renderTo(m.config, "grayfed-edge.yaml.tmpl", m.grayfedEdge); err != nil {
			return nil, err
		}
		if m.child, err = b.startEdge(at.Zone+"-edge", dir, m.config); err != nil {
			return nil, err
		}
		f.edges = append(f.edges, m)
	}
	for _, m := range f.edges {
		if err := waitFor(ctx, grayfedReady, m.child, func() error { return f.joined(ctx, m) }); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// joined reports what keeps an edge from being ready with all others alive.
func (f *federation) joined(ctx context.Context, m *member) error {
	var status any
	if err := getJSON(ctx, f.client, m.api("/readyz"), &status); err != nil {
		return err
	}
	var seen struct {
		Edges []struct {
			Status string `json:"status"`
		} `json:"edges"`
	}
	if err := getJSON(ctx, f.client, m.api("/v1/federation"), &seen); err != nil {
		return err
	}
	alive := 0
	for _, edge := range seen.Edges {
		if edge.Status == edgeAlive {
			alive++
		}
	}
	if alive != len(f.edges) {
		return fmt.Errorf("%s's edge sees %d of %d edges alive", m.Zone, alive, len(f.edges))
	}
	return nil
}

func (m *member) api(path string) string { return "http://" + m.Admin.String() + path }

// registrar registers with one edge.
func (f *federation) registrar(m *member) *registrar {
	return &registrar{admin: m.Admin, client: f.client}
}

// alive reports the first edge, or the etcd, that ended by itself.
func (f *federation) alive() error {
	err := f.etcd.alive()
	for _, m := range f.edges {
		err = errors.Join(err, m.alive())
	}
	return err
}

// end ends everything, the edges before their etcd.
func (f *federation) end() error {
	edges := make([]*child, len(f.edges))
	for n, m := range f.edges {
		edges[n] = m.child
	}
	err := errors.Join(endAll(f.others), endAll(edges))
	if f.etcd != nil {
		err = errors.Join(err, f.etcd.end())
	}
	f.client.CloseIdleConnections()
	return err
}

// endAll ends children at the same time.
func endAll(list []*child) error {
	failed := make([]error, len(list))
	var done sync.WaitGroup
	for n, p := range list {
		done.Go(func() { failed[n] = p.end() })
	}
	done.Wait()
	return errors.Join(failed...)
}

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"
)

const (
	benchService      = "user-service"
	heartbeatInterval = 2 * time.Second
	grayfedReady      = 20 * time.Second
)

// grayfedRoute is one Route document.
type grayfedRoute struct {
	Name    string
	Path    string
	Service string
}

// plainRoutes is the one route of the comparison with the peers.
func plainRoutes() []grayfedRoute {
	return []grayfedRoute{{Name: "api-v1-users", Path: pathPrefix + "**", Service: benchService}}
}

// grayfedDocuments is what the template of the documents is filled with.
type grayfedDocuments struct {
	Service, Stable, Tag string // "" as Service: routes alone
	Routes               []grayfedRoute
}

// releaseDocuments declare the service, its release and the given routes.
func releaseDocuments(routes []grayfedRoute) grayfedDocuments {
	return grayfedDocuments{Service: benchService, Stable: stableRelease, Tag: canaryRelease, Routes: routes}
}

// place is where an edge or an instance runs.
type place struct{ Zone, Region string }

// benchPlace is where everything of the comparison with the peers runs.
func benchPlace() place { return place{Zone: "bench", Region: "bench"} }

// grayfedEdge is what the template of edge.yaml is filled with.
type grayfedEdge struct {
	place
	protocol
	certificate
	Listen    netip.AddrPort
	Admin     netip.AddrPort
	Gossip    netip.AddrPort
	Etcd      netip.AddrPort
	Peers     []netip.AddrPort
	DataDir   string
	Documents string
	AccessLog bool
}

// registration is the body that registers an instance.
type registration struct {
	Cluster string `json:"cluster"`
	Zone    string `json:"zone"`
	Region  string `json:"region"`
	Address string `json:"address"`
	Version string `json:"version,omitempty"`
	TTL     string `json:"ttl,omitempty"`
}

// startEtcd starts the etcd that grayfed brings along, and waits for it.
func (b *bench) startEtcd(ctx context.Context, dir string, client, peer netip.AddrPort) (*child, error) {
	etcd, err := start(command{
		Name: "etcd", Path: b.programs[peerGrayfed], Dir: dir, Death: syscall.SIGKILL,
		Args: []string{"dev-etcd", "--data-dir", filepath.Join(dir, "etcd"), "--client", client.String(), "--peer", peer.String()},
	})
	if err != nil {
		return nil, err
	}
	if err := waitFor(ctx, grayfedReady, etcd, func() error { return dial(client) }); err != nil {
		return nil, errors.Join(err, etcd.end())
	}
	return etcd, nil
}

// startEdge starts one edge and does not wait for it.
func (b *bench) startEdge(name, dir, config string) (*child, error) {
	return start(command{
		Name: name, Path: b.programs[peerGrayfed], Dir: dir, Death: syscall.SIGTERM,
		Args: []string{"edge", "-c", config},
		Env:  []string{"GOMAXPROCS=" + strconv.Itoa(b.settings.Workers)},
	})
}

// startGrayfed starts an etcd, one edge on it with the given routes, and
// registers both origins with it, which it then keeps alive.
func (b *bench) startGrayfed(ctx context.Context, speaks protocol, accessLog bool, routes []grayfedRoute) (_ *proxy, err error) {
	j, err := b.newJob(speaks, accessLog, 4)
	if err != nil {
		return nil, err
	}
	ports := j.spare
	edge := grayfedEdge{
		place: benchPlace(), protocol: speaks, certificate: j.certificate, DataDir: filepath.Join(j.Dir, "data"), Documents: filepath.Join(j.Dir, "documents.yaml"),
		Listen: j.Listen, Etcd: ports[0], Admin: ports[2], Gossip: ports[3], AccessLog: accessLog,
	}
	config := filepath.Join(j.Dir, "edge.yaml")
	if err := errors.Join(
		renderTo(config, "grayfed-edge.yaml.tmpl", edge),
		renderTo(edge.Documents, "grayfed-documents.yaml.tmpl", releaseDocuments(routes)),
	); err != nil {
		return nil, err
	}

	var stops []func() error
	stop := func() error {
		var err error
		for i := len(stops) - 1; i >= 0; i-- {
			err = errors.Join(err, stops[i]())
		}
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, stop())
		}
	}()

	etcd, err := b.startEtcd(ctx, j.Dir, ports[0], ports[1])
	if err != nil {
		return nil, err
	}
	stops = append(stops, etcd.end)
	gateway, err := b.startEdge(peerGrayfed, j.Dir, config)
	if err != nil {
		return nil, err
	}
	stops = append(stops, gateway.end)

	reg := &registrar{admin: edge.Admin, client: &http.Client{Timeout: 2 * time.Second}}
	for _, instance := range []*backend{b.stable, b.canary} {
		if err := waitFor(ctx, grayfedReady, gateway, func() error { return reg.register(ctx, instance) }); err != nil {
			return nil, err
		}
	}
	stops = append(stops, reg.keepAlive(heartbeatInterval, b.stable, b.canary))

	// The access log goes to the edge's standard output.
	p := &proxy{entrance: j.entrance(), root: gateway, stop: stop}
	if accessLog {
		p.accessLog = gateway.log
	}
	return p, nil
}

// registrar speaks to the admin port of an edge.
type registrar struct {
	admin  netip.AddrPort
	client *http.Client
}

// call asks for one instance; suffix comes behind its path.
func (r *registrar) call(ctx context.Context, method, service, id, suffix string, body []byte) error {
	target := url.URL{Scheme: "http", Host: r.admin.String(),
		Path: "/v1/services/" + service + "/instances/" + id + suffix}
	request, err := http.NewRequestWithContext(ctx, method, target.String(), bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("register an instance: %w", err)
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := r.client.Do(request)
	if err != nil {
		return fmt.Errorf("register an instance: %w", err)
	}
	defer func() { _ = response.Body.Close() }() // it was read as far as wanted
	answer, err := io.ReadAll(io.LimitReader(response.Body, 4<<10))
	if err != nil {
		return fmt.Errorf("register an instance: read the answer: %w", err)
	}
	if response.StatusCode/100 != 2 {
		return fmt.Errorf("register an instance: %s %s: %s: %s", method, target.Path, response.Status, bytes.TrimSpace(answer))
	}
	return nil
}

func (r *registrar) put(ctx context.Context, service, id string, body registration) error {
	body.Cluster = body.Zone
	text, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("register an instance: %w", err)
	}
	return r.call(ctx, http.MethodPut, service, id, "", text)
}

// register registers an origin of the comparison with the peers.
func (r *registrar) register(ctx context.Context, instance *backend) error {
	at := benchPlace()
	version := stableRelease
	if instance.name == "origin-"+canaryRelease {
		version = canaryRelease
	}
	return r.put(ctx, benchService, instance.name, registration{Zone: at.Zone, Region: at.Region, Address: instance.addr.String(), Version: version})
}

// keepAlive heartbeats the instances until the returned function is called. A
// heartbeat that fails shows as failing requests, so nothing else tells of it.
func (r *registrar) keepAlive(every time.Duration, instances ...*backend) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				for _, instance := range instances {
					_ = r.call(ctx, http.MethodPost, benchService, instance.name, "/heartbeat", nil)
				}
			}
		}
	})
	return func() error {
		cancel()
		done.Wait()
		r.client.CloseIdleConnections()
		return nil
	}
}

func dial(addr netip.AddrPort) error {
	conn, err := net.DialTimeout("tcp4", addr.String(), time.Second)
	if err != nil {
		return err
	}
	return conn.Close()
}

// waitFor polls until check passes; it fails when the child ends first, when
// ctx does, or after the limit with the last reason.
func waitFor(ctx context.Context, limit time.Duration, p *child, check func() error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := check()
		if err == nil {
			return nil
		}
		if dead := p.alive(); dead != nil {
			return dead
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready after %v: %w%s", p.name, limit, err, p.tail())
		case <-p.exited:
		case <-ticker.C:
		}
	}
}

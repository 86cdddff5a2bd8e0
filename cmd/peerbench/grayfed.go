package main

import (
	"bytes"
	"context"
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
	Name string
	Path string
}

// plainRoutes is the one route of the comparison with the peers.
func plainRoutes() []grayfedRoute {
	return []grayfedRoute{{Name: "api-v1-users", Path: pathPrefix + "**"}}
}

// grayfedEdge is what the templates of edge.yaml are filled with.
type grayfedEdge struct {
	job
	DataDir   string
	Documents string
	Admin     netip.AddrPort
	Etcd      netip.AddrPort
	Gossip    netip.AddrPort
}

// etcdArgs is the command line of the etcd that grayfed brings along.
func etcdArgs(dir string, client, peer netip.AddrPort) []string {
	return []string{"dev-etcd", "--data-dir", dir, "--client", client.String(), "--peer", peer.String()}
}

// startGrayfed starts an etcd, one edge on it with the given routes, and
// registers both origins with it, which it then keeps alive.
func (b *bench) startGrayfed(ctx context.Context, accessLog bool, routes []grayfedRoute) (_ *proxy, err error) {
	j, err := b.newJob(accessLog, 4)
	if err != nil {
		return nil, err
	}
	ports := j.spare
	edge := grayfedEdge{
		job: j, DataDir: filepath.Join(j.Dir, "data"), Documents: filepath.Join(j.Dir, "documents.yaml"),
		Etcd: ports[0], Admin: ports[2], Gossip: ports[3],
	}
	config := filepath.Join(j.Dir, "edge.yaml")
	if err := errors.Join(
		renderTo(config, "grayfed-edge.yaml.tmpl", edge),
		renderTo(edge.Documents, "grayfed-documents.yaml.tmpl", map[string]any{
			"Service": benchService, "Stable": stableRelease, "Tag": canaryRelease, "Routes": routes,
		}),
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

	binary := b.programs[peerGrayfed]
	etcd, err := start(command{
		Name: "etcd", Path: binary, Dir: j.Dir, Death: syscall.SIGKILL,
		Args: etcdArgs(filepath.Join(j.Dir, "etcd"), ports[0], ports[1]),
	})
	if err != nil {
		return nil, err
	}
	stops = append(stops, etcd.end)
	if err := waitFor(ctx, grayfedReady, etcd, func() error { return dial(ports[0]) }); err != nil {
		return nil, err
	}
	gateway, err := start(command{
		Name: peerGrayfed, Path: binary, Dir: j.Dir, Death: syscall.SIGTERM,
		Args: []string{"edge", "-c", config},
		Env:  []string{"GOMAXPROCS=" + strconv.Itoa(j.Workers)},
	})
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
	p := &proxy{listen: j.Listen, root: gateway, stop: stop}
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

func (r *registrar) call(ctx context.Context, method string, instance *backend, suffix string, body []byte) error {
	target := url.URL{Scheme: "http", Host: r.admin.String(),
		Path: "/v1/services/" + benchService + "/instances/" + instance.name + suffix}
	request, err := http.NewRequestWithContext(ctx, method, target.String(), bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("register origins: %w", err)
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := r.client.Do(request)
	if err != nil {
		return fmt.Errorf("register origins: %w", err)
	}
	defer func() { _ = response.Body.Close() }() // it was read as far as wanted
	answer, err := io.ReadAll(io.LimitReader(response.Body, 4<<10))
	if err != nil {
		return fmt.Errorf("register origins: read the answer: %w", err)
	}
	if response.StatusCode/100 != 2 {
		return fmt.Errorf("register origins: %s %s: %s: %s", method, target.Path, response.Status, bytes.TrimSpace(answer))
	}
	return nil
}

func (r *registrar) register(ctx context.Context, instance *backend) error {
	version := stableRelease
	if instance.name == "origin-"+canaryRelease {
		version = canaryRelease
	}
	body, err := render("grayfed-instance.json.tmpl", map[string]any{
		"Address": instance.addr.String(), "Version": version,
	})
	if err != nil {
		return err
	}
	return r.call(ctx, http.MethodPut, instance, "", body)
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
					_ = r.call(ctx, http.MethodPost, instance, "/heartbeat", nil)
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

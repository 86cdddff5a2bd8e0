package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"

	"github.com/grayfed/grayfed/chaos/guard"
	"github.com/grayfed/grayfed/chaos/lab"
)

// labVersion is the version of the lab's baseline.
const labVersion = "v1"

// WithLab runs a lab and calls use with it as a target once it serves. The lab
// outlives ctx for as long as use needs to mend, and ends with use; when it ends
// by itself, use's ctx does.
func WithLab(ctx context.Context, name string, opts lab.Options, use func(context.Context, *Target) error) error {
	if err := labPorts(&opts); err != nil {
		return err
	}
	ready := make(chan struct{})
	opts.Ready = func(*lab.Lab) { close(ready) }
	l, err := lab.New(opts)
	if err != nil {
		return fmt.Errorf("target %s: %w", name, err)
	}
	running, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	ended := make(chan error, 1)
	go func() { ended <- guard.Do(func() error { return l.Run(running) }) }()
	select {
	case err := <-ended:
		return fmt.Errorf("target %s: %w", name, err)
	case <-ctx.Done():
		end()
		return errors.Join(fmt.Errorf("told to stop before target %s served: %w", name, ctx.Err()), <-ended)
	case <-ready:
	}
	t, err := labTarget(name, l, opts.Zones)
	if err != nil {
		end()
		return errors.Join(err, <-ended)
	}
	defer t.Close()
	using, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	used := make(chan error, 1)
	go func() { used <- guard.Do(func() error { return use(using, t) }) }()
	select {
	case err = <-used:
		end()
		return errors.Join(err, <-ended)
	case err = <-ended:
		err = fmt.Errorf("target %s: %w", name, err)
		cancel(fmt.Errorf("%w: %w", errTargetEnded, err))
		return errors.Join(<-used, err)
	}
}

// LabPlan is a target that is not run, for [Plan].
func LabPlan(name string, opts lab.Options) (*Target, error) {
	if err := labPorts(&opts); err != nil {
		return nil, err
	}
	l, err := lab.New(opts)
	if err != nil {
		return nil, fmt.Errorf("target %s: %w", name, err)
	}
	return labTarget(name, l, opts.Zones)
}

func labTarget(name string, l *lab.Lab, zones []lab.Zone) (*Target, error) {
	t := &Target{
		Name: name, Roots: l.CA(), Faults: l, mayEnd: true,
		Request: Request{
			Path: "/api/v1/users/42", Baseline: labVersion,
			Permissive: Release{Tag: lab.SampleTag, Version: lab.SampleTag},
			Strict:     Release{Tag: lab.StrictTag, Version: lab.SampleTag},
		},
	}
	for _, z := range zones {
		at := l.Edge(z.Name)
		edge := Edge{Zone: z.Name, Data: at.Data, TLS: at.DataTLS, Standby: z.Region != zones[0].Region}
		var err error
		if edge.Client, err = l.Client(z.Name); err != nil {
			t.Close()
			return nil, err
		}
		t.Edges = append(t.Edges, edge)
	}
	if servers := l.DNSServers(); len(servers) > 0 {
		t.DNS = DNS{Servers: servers, Name: "gateway." + lab.Domain}
	} else {
		t.Notes = append(t.Notes, name+" has no DNS: all load goes straight to the edges, and nothing is judged by DNS")
	}
	return t, nil
}

// Close closes the connections to the edges' APIs.
func (t *Target) Close() {
	for _, e := range t.Edges {
		e.Client.Close()
	}
}

// labPorts gives a lab on loopback ports of its own, so that it can run beside
// another.
func labPorts(opts *lab.Options) error {
	if len(opts.Zones) == 0 {
		opts.Zones = lab.DefaultZones()
	}
	if opts.Namespaces {
		return nil
	}
	ports, err := freePorts(2 + 3*len(opts.Zones))
	if err != nil {
		return err
	}
	opts.Etcd, opts.EtcdPeer = ports[0], ports[1]
	for n := range opts.Zones {
		z := &opts.Zones[n]
		z.Data, z.Admin, z.Gossip = ports[2+3*n], ports[3+3*n], ports[4+3*n]
	}
	return nil
}

// freePorts are free for TCP and UDP, and below those that the kernel gives to
// outgoing connections.
func freePorts(n int) ([]int, error) {
	var ports []int
	// From anywhere, so that two that look at the same time find others.
	begin := rand.IntN(lastPort - firstPort)
	for i := 0; i < lastPort-firstPort && len(ports) < n; i++ {
		port := firstPort + (begin+i)%(lastPort-firstPort)
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		stream, err := net.Listen("tcp", address)
		if err != nil {
			continue
		}
		packets, err := net.ListenPacket("udp", address)
		if err != nil {
			_ = stream.Close() // taken by somebody else for packets
			continue
		}
		if err := errors.Join(stream.Close(), packets.Close()); err != nil {
			return nil, err
		}
		ports = append(ports, port)
	}
	if len(ports) < n {
		return nil, fmt.Errorf("found %d free ports from %d to %d, want %d", len(ports), firstPort, lastPort, n)
	}
	return ports, nil
}

// The range of ports that labs on loopback take.
const (
	firstPort = 18_000
	lastPort  = 30_000
)

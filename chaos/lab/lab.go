// Package lab runs availability zones and their processes on this machine:
// edges, an etcd and sample instances, each a child process that can be killed
// like a real one.
package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// readyTimeout bounds how long the lab waits for all its edges to serve.
const readyTimeout = 20 * time.Second

// Zone is one availability zone of the lab.
type Zone struct {
	Name     string
	Region   string
	Data     int      // TCP port of the edge's data listener
	Admin    int      // TCP port of the edge's HTTP API
	Gossip   int      // TCP and UDP port of the edge's gossip
	Versions []string // of the sample service, one instance each
}

// Options describe a lab. All listeners are on loopback.
type Options struct {
	Binary    string // the grayfed program that the children run
	DataDir   string // "" makes one and removes it at the end
	Zones     []Zone
	Etcd      int // TCP port for etcd's clients
	EtcdPeer  int // TCP port for etcd's peers
	AccessLog bool
	Output    io.Writer // the children's logs, prefixed
	// Ready is called once, when every edge serves every version from every
	// zone. It may be nil.
	Ready func(*Lab)
}

func (o *Options) validate() error {
	if o.Binary == "" || o.Output == nil || len(o.Zones) == 0 {
		return errors.New("a lab needs a binary, an output and at least one zone")
	}
	return nil
}

// Lab is a running set of zones.
type Lab struct {
	opts    Options
	dir     string
	ownDir  bool
	spawner *spawner
	out     *lineWriter

	etcd      *process
	edges     []*process
	instances []*process
	deaths    chan *process
}

// New checks the options, the ports and the data folder; it starts nothing.
func New(opts Options) (*Lab, error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	l := &Lab{opts: opts, dir: opts.DataDir, out: &lineWriter{out: opts.Output, width: len("az1/user-service v2-beta")}}
	for _, p := range l.ports() {
		if err := probe(p); err != nil {
			return nil, err
		}
	}
	return l, nil
}

type port struct {
	owner, flag string
	number      int
	udp         bool
}

func (l *Lab) ports() []port {
	ports := []port{
		{"etcd", "--etcd-port", l.opts.Etcd, false},
		{"etcd's peer listener", "--etcd-peer-port", l.opts.EtcdPeer, false},
	}
	for _, z := range l.opts.Zones {
		ports = append(ports,
			port{z.Name + "'s data listener", "--data-ports", z.Data, false},
			port{z.Name + "'s admin listener", "--admin-ports", z.Admin, false},
			port{z.Name + "'s gossip", "--gossip-ports", z.Gossip, false},
			port{z.Name + "'s gossip", "--gossip-ports", z.Gossip, true},
		)
	}
	return ports
}

// probe reports a port that somebody else listens on.
func probe(p port) error {
	address := loopback(p.number)
	var closer io.Closer
	var err error
	if p.udp {
		closer, err = net.ListenPacket("udp", address)
	} else {
		closer, err = net.Listen("tcp", address)
	}
	if err != nil {
		return fmt.Errorf("%s cannot have %s: %w; choose another with %s", p.owner, address, err, p.flag)
	}
	return closer.Close()
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// Run starts everything, calls Ready, and blocks until ctx ends or a process
// fails by itself. A process that somebody kills, or tells to end, is a drill:
// it is reported, and the rest goes on. Nothing is left running when Run
// returns.
func (l *Lab) Run(ctx context.Context) (err error) {
	if err := l.prepareDir(); err != nil {
		return err
	}
	defer func() {
		if l.ownDir {
			err = errors.Join(err, os.RemoveAll(l.dir))
		}
	}()
	l.spawner = newSpawner()
	go l.spawner.run()
	defer l.spawner.stop()
	defer l.endAll()

	l.deaths = make(chan *process, 2+len(l.opts.Zones)*8)
	readyCtx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	if err := l.bringUp(readyCtx); err != nil {
		if ctx.Err() != nil {
			return nil // told to stop while starting
		}
		return err
	}
	if l.opts.Ready != nil {
		l.opts.Ready(l)
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case p := <-l.deaths:
			if ctx.Err() != nil {
				return nil
			}
			if p.err != nil && !p.killed() {
				return fmt.Errorf("%s ended by itself: %s; its last lines are above", p.name, p.describe())
			}
			l.out.print(p.name, "ended ("+p.describe()+"); the others go on")
		}
	}
}

func (l *Lab) prepareDir() error {
	if l.dir == "" {
		dir, err := os.MkdirTemp("", "grayfed-dev-")
		if err != nil {
			return fmt.Errorf("make a data folder: %w", err)
		}
		l.dir, l.ownDir = dir, true
		return nil
	}
	// The edges' files name each other by it.
	dir, err := filepath.Abs(l.dir)
	if err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	l.dir = dir
	if err := os.MkdirAll(l.dir, 0o755); err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	file, err := os.CreateTemp(l.dir, ".writable-*")
	if err != nil {
		return fmt.Errorf("data folder %s is not writable: %w", l.dir, err)
	}
	return errors.Join(file.Close(), os.Remove(file.Name()))
}

// bringUp starts etcd, then the edges, then the instances, and waits for each
// to answer. A child that ends meanwhile fails it at once.
func (l *Lab) bringUp(ctx context.Context) (err error) {
	if err := l.writeConfig(); err != nil {
		return err
	}
	if l.etcd, err = l.start("etcd", "dev-etcd",
		"--data-dir", filepath.Join(l.dir, "etcd"),
		"--client", loopback(l.opts.Etcd), "--peer", loopback(l.opts.EtcdPeer)); err != nil {
		return err
	}
	if err := l.await(ctx, "etcd to listen", func(ctx context.Context) error { return dial(ctx, l.opts.Etcd) }); err != nil {
		return err
	}
	for _, z := range l.opts.Zones {
		p, err := l.start(z.Name+"/edge", "edge", "-c", l.edgeFile(z))
		if err != nil {
			return err
		}
		l.edges = append(l.edges, p)
	}
	// Instances would wait by themselves, but not in silence.
	if err := l.await(ctx, "the edges to be ready", l.ready); err != nil {
		return err
	}
	for n, z := range l.opts.Zones {
		for _, version := range z.Versions {
			p, err := l.start(z.Name+"/"+sampleService+" "+version, "dev-instance",
				"--service", sampleService, "--zone", z.Name, "--region", z.Region, "--version", version,
				"--edges", l.adminURLs(n))
			if err != nil {
				return err
			}
			l.instances = append(l.instances, p)
		}
	}
	return l.await(ctx, "all edges to serve all versions", l.serving)
}

func (l *Lab) start(name, subcommand string, args ...string) (*process, error) {
	p, err := l.spawner.start(name, l.opts.Binary, append([]string{subcommand}, args...), l.out)
	if err != nil {
		return nil, err
	}
	deaths := l.deaths
	go func() {
		<-p.exited
		deaths <- p
	}()
	return p, nil
}

// await polls until check passes, a child ends or ctx does.
func (l *Lab) await(ctx context.Context, what string, check func(context.Context) error) error {
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited in vain for %s: %w", what, err)
		case p := <-l.deaths:
			return fmt.Errorf("%s died while starting: %s; its last lines are above", p.name, p.describe())
		case <-ticker.C:
		}
	}
}

func dial(ctx context.Context, port int) error {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", loopback(port))
	if err != nil {
		return err
	}
	return conn.Close()
}

// endAll ends the instances first, so that they can drain and deregister, then
// the edges, then etcd.
func (l *Lab) endAll() {
	ctx, cancel := context.WithTimeout(context.Background(), 3*grace)
	defer cancel()
	end(ctx, l.instances)
	end(ctx, l.edges)
	if l.etcd != nil {
		end(ctx, []*process{l.etcd})
	}
}

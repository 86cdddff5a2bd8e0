// Package lab runs availability zones and their processes on this machine:
// edges, etcd and sample instances, each a child process that can be killed
// like a real one. Either all listen on loopback, or each zone is a network
// namespace with a Consul server besides, and the network between them can be
// broken.
package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/grayfed/grayfed/chaos/guard"
	"github.com/grayfed/grayfed/edge/config"
)

const (
	// readyTimeout bounds how long the lab waits for all its edges to serve;
	// clusters of etcd and Consul have to find together first in namespaces.
	readyTimeout           = 20 * time.Second
	readyTimeoutNamespaces = time.Minute
)

// Zone is one availability zone of the lab. The ports count on loopback only;
// in namespaces every zone has the usual ones.
type Zone struct {
	Name     string
	Region   string
	Data     int      // TCP port of the edge's data listener
	Admin    int      // TCP port of the edge's HTTP API
	Gossip   int      // TCP and UDP port of the edge's gossip
	DNS      int      // TCP and UDP port of the edge's name server; 0: none
	Versions []string // of the sample service
}

// DefaultZones are az1 and az2 of region east and the standby az3 of region
// south, without ports.
func DefaultZones() []Zone {
	return []Zone{
		{Name: "az1", Region: "east", Versions: []string{"v1", SampleTag}},
		{Name: "az2", Region: "east", Versions: []string{"v1", SampleTag}},
		{Name: "az3", Region: "south", Versions: []string{"v1"}},
	}
}

// witnesses hold a Consul server each and nothing else, so that its quorum
// outlives two zones.
func witnesses() []string { return []string{"w1", "w2"} }

// Options describe a lab.
type Options struct {
	Binary  string // the grayfed program that the children run
	DataDir string // "" makes one and removes it at the end
	// Zones, default [DefaultZones], which need ports on loopback.
	Zones    []Zone
	Replicas int // instances of each version in each zone, 1 to 10; default 1
	// OneRelease leaves StrictTag out. Edges warn of two releases of the same
	// canaries, which is what a drill wants and a demo does not.
	OneRelease bool
	// Namespaces makes each zone a network namespace. It takes root.
	Namespaces bool
	// Reach is how edges reach other zones in namespaces: "direct", the
	// default, or "gateway", through the other zone's edge.
	Reach     string
	Consul    string // the Consul agent, for namespaces; "" looks on PATH and for what `make consul` fetched
	Etcd      int    // TCP port for etcd's clients; on loopback
	EtcdPeer  int    // TCP port for etcd's peers; on loopback
	AccessLog bool
	Output    io.Writer // the children's logs, prefixed
	// Ready is called once, when every edge serves every version from every
	// zone. It may be nil.
	Ready func(*Lab)
}

func (o *Options) validate() error {
	if len(o.Zones) == 0 {
		o.Zones = DefaultZones()
	}
	if o.Replicas == 0 {
		o.Replicas = 1
	}
	if o.Reach == "" {
		o.Reach = config.ReachDirect
	}
	if o.Reach != config.ReachDirect && o.Reach != config.ReachGateway {
		return fmt.Errorf("reach is %q, allowed %s and %s", o.Reach, config.ReachDirect, config.ReachGateway)
	}
	if o.Binary == "" || o.Output == nil {
		return errors.New("a lab needs a binary and an output")
	}
	if o.Replicas < 1 || o.Replicas > 10 {
		return fmt.Errorf("a lab has %d instances of each version, allowed 1 to 10", o.Replicas)
	}
	if o.Namespaces {
		if most := slotNodes - 1 - len(witnesses()); len(o.Zones) > most {
			return fmt.Errorf("a lab has %d zones, allowed at most %d", len(o.Zones), most)
		}
		o.Zones = slices.Clone(o.Zones)
		for n := range o.Zones {
			z := &o.Zones[n]
			z.Data, z.Admin, z.Gossip, z.DNS = dataPort, adminPort, gossipPort, dnsPort
		}
	}
	return nil
}

// Lab is a set of zones. Its methods are safe for concurrent use from the call
// of Ready until Run returns; before, Parts, Nodes, Edge and Client answer too.
type Lab struct {
	opts    Options
	dir     string
	ownDir  bool
	spawner *spawner
	out     *lineWriter

	network   *network   // nil on loopback
	authority *authority // nil on loopback
	token     string

	parts    []*part
	deaths   chan death
	ended    chan struct{} // closed when nobody hears of deaths any more
	watchers sync.WaitGroup

	mu sync.Mutex // guards what part says
}

// death is the end of a part's process.
type death struct {
	part    *part
	process *process
}

// New checks the options, the ports and what the machine has; it starts and
// makes nothing.
func New(opts Options) (*Lab, error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	width := len("az1/user-service v2-beta")
	if opts.Replicas > 1 {
		width += len(" 2")
	}
	l := &Lab{
		opts: opts, dir: opts.DataDir, out: &lineWriter{out: opts.Output, width: width},
		deaths: make(chan death), ended: make(chan struct{}),
	}
	if opts.Namespaces {
		if err := checkNamespaces(); err != nil {
			return nil, err
		}
		if l.opts.Consul == "" {
			var err error
			if l.opts.Consul, err = findConsul(); err != nil {
				return nil, err
			}
		}
		l.parts = l.plan()
		return l, nil
	}
	l.parts = l.plan()
	for _, p := range l.ports() {
		if err := probe(p); err != nil {
			return nil, err
		}
	}
	return l, nil
}

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
	if l.opts.Namespaces {
		stop, err := l.openNetwork(ctx)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, stop()) }()
	}
	l.spawner = newSpawner()
	go l.spawner.run()
	defer l.spawner.stop()
	defer l.endAll()

	limit := readyTimeout
	if l.opts.Namespaces {
		limit = readyTimeoutNamespaces
	}
	readyCtx, cancel := context.WithTimeout(ctx, limit)
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
		case d := <-l.deaths:
			if ctx.Err() != nil {
				return nil
			}
			if l.failed(d) {
				return fmt.Errorf("%s ended by itself: %s; its last lines are above", d.part.name, d.process.describe())
			}
			l.out.print(d.part.name, "ended ("+d.process.describe()+"); the others go on")
		}
	}
}

// failed reports whether nobody wanted that process to end.
func (l *Lab) failed(d death) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	expected := d.part.expected || d.part.process != d.process
	return d.process.err != nil && !d.process.killed() && !expected
}

// folderPrefix begins the names of folders that labs make for themselves.
const folderPrefix = "grayfed-dev-"

func (l *Lab) prepareDir() error {
	if l.dir == "" {
		dir, err := os.MkdirTemp("", folderPrefix)
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

// openNetwork makes the namespaces and starts the relay of slow links; stop
// removes them.
func (l *Lab) openNetwork(ctx context.Context) (stop func() error, err error) {
	var folder string
	if l.ownDir {
		folder = l.dir
	}
	slot, removed, err := takeSlot(ctx, folder)
	if err != nil {
		return nil, err
	}
	for _, what := range removed {
		l.out.print("lab", "removed "+what+", which a lab that died left behind")
	}
	if l.network, err = newNetwork(ctx, slot, l.Nodes()); err != nil {
		return nil, errors.Join(err, slot.release())
	}
	relayed := make(chan struct{})
	go func() {
		defer close(relayed)
		l.network.relay.broke(guard.Do(l.network.relay.run))
	}()
	return func() error {
		err := l.network.close()
		<-relayed
		return errors.Join(err, l.network.relay.failed(), slot.release())
	}, nil
}

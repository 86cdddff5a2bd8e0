// Package etcd runs one embedded etcd member for a lab on this machine, so that
// a demo needs nothing installed. It runs in a process of its own, like every
// other part, and can be killed like one.
package etcd

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

const (
	// startTimeout bounds how long the only member may take to elect itself; it
	// takes a tenth of a second where the disk is well. One of several waits
	// for the others, as long as it is let.
	startTimeout = 15 * time.Second
	// A lab's members are on one machine, where an answer takes far less than a
	// millisecond. An election is due after five missed heartbeats, the fewest
	// that etcd admits (its own defaults: 100 ms and 1 s), so that a dead leader
	// is replaced within a second.
	heartbeatMS = 100
	electionMS  = 500
)

// Options say where the member listens and keeps its data.
type Options struct {
	Name    string // of this member
	DataDir string // made where there is none
	Client  string // host:port for clients
	Peer    string // host:port for peers
	// Cluster has all members, as etcd spells it: "az1=http://10.0.0.1:2380,...".
	// Empty: this one is alone.
	Cluster string
}

// Run serves until ctx ends. It returns an error when the member cannot start
// or stops by itself.
func Run(ctx context.Context, opts Options) error {
	cfg := embed.NewConfig()
	cfg.Dir = opts.DataDir
	cfg.Name = opts.Name
	cfg.TickMs, cfg.ElectionMs = heartbeatMS, electionMS
	level := zap.NewAtomicLevelAt(zap.ErrorLevel)
	log, err := newLog(level)
	if err != nil {
		return fmt.Errorf("open log of etcd: %w", err)
	}
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(log)
	client := url.URL{Scheme: "http", Host: opts.Client}
	peer := url.URL{Scheme: "http", Host: opts.Peer}
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	starting := time.After(startTimeout)
	if cfg.InitialCluster = opts.Cluster; cfg.InitialCluster == "" {
		cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	} else {
		starting = nil
	}
	// A lab is thrown away: a power cut may cost it its registrations.
	cfg.UnsafeNoFsync = true

	server, err := embed.StartEtcd(cfg)
	if err != nil {
		return fmt.Errorf("start etcd on %s: %w", opts.Client, err)
	}
	defer server.Close()
	select {
	case <-server.Server.ReadyNotify():
	case <-starting:
		return fmt.Errorf("start etcd on %s: not ready within %s", opts.Client, startTimeout)
	case <-ctx.Done():
		return nil
	}
	// What an end that is wanted does to open listeners are no errors.
	defer level.SetLevel(zap.FatalLevel)
	select {
	case err := <-server.Err():
		return fmt.Errorf("etcd on %s: %w", opts.Client, err)
	case <-server.Server.StopNotify():
		return fmt.Errorf("etcd on %s stopped by itself", opts.Client)
	case <-ctx.Done():
		return nil
	}
}

// newLog writes lines that people read. Warnings are left out: they are about
// clusters of more than a lab's.
func newLog(level zap.AtomicLevel) (*zap.Logger, error) {
	c := zap.NewProductionConfig()
	c.Level, c.Encoding, c.DisableStacktrace = level, "console", true
	c.EncoderConfig.EncodeTime = zapcore.ISO8601TimeEncoder
	return c.Build()
}

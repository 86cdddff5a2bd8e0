package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/grayfed/grayfed/edge/api"
	"github.com/grayfed/grayfed/edge/api/registrar"
	"github.com/grayfed/grayfed/federation"
)

// leaveTimeout bounds taking the instance out when its program has ended.
const leaveTimeout = 3 * time.Second

// registration is what the flags of register say.
type registration struct {
	credentials
	instance     federation.Instance
	tags         []string
	ttl          time.Duration
	edges        []string
	port         int
	ready        readiness
	drainTimeout time.Duration
	stopTimeout  time.Duration
}

func newRegisterCommand() *cobra.Command {
	var r registration
	command := &cobra.Command{
		Use:   "register --service NAME --zone ZONE --port N [flags] -- PROGRAM [ARG...]",
		Short: "Run a program and register it as an instance",
		Long: `Runs PROGRAM and waits until it listens; then registers it with the first edge
that answers, sends its heartbeats, and moves to another edge when one dies.

SIGINT and SIGTERM end it in order: edges send nothing new, what is under way may
end, PROGRAM gets SIGTERM, the instance is taken out. A second one kills PROGRAM.
SIGHUP, SIGUSR1 and SIGUSR2 are passed on. PROGRAM reads nothing on its standard
input.

The exit code is PROGRAM's: 128 and the signal's number when a signal ended it,
127 when it was not found, 126 when it cannot be run.`,
		Example: `  grayfed register --service user-service --zone az1 --version v2-beta --port 8080 -- ./users --listen :8080
  grayfed register --service user-service --zone az1 --address 10.0.0.7:8080 --wait /healthz \
      --edges https://edge-az1:9081,https://edge-az2:9081 --token-file /run/secrets/grayfed -- ./users`,
		Args: func(cmd *cobra.Command, args []string) error {
			if cmd.ArgsLenAtDash() != 0 || len(args) == 0 {
				return errors.New("write the program to run after --: grayfed register --service NAME --zone ZONE --port N -- PROGRAM [ARG...]")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			options, err := r.options(slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil)))
			if err != nil {
				return err
			}
			keeper, err := registrar.New(options)
			if err != nil {
				return usageError(err)
			}
			// See startChild; run calls this on the main goroutine.
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			p, err := startChild(args, cmd.OutOrStdout(), cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			if err := r.run(cmd.Context(), p, keeper, options.Log); err != nil {
				return err
			}
			if code := p.code(); code != 0 {
				return exitError{code: code}
			}
			return nil
		},
	}
	r.flags(command)
	return command
}

func (r *registration) flags(command *cobra.Command) {
	flags := command.Flags()
	flags.SetInterspersed(false)
	flags.StringVar(&r.instance.Service, "service", "", "service that it serves (required)")
	flags.StringVar(&r.instance.ID, "id", "", "id of the instance (default: host name and port)")
	flags.StringVar(&r.instance.Zone, "zone", "", "zone that it runs in (required)")
	flags.StringVar(&r.instance.Region, "region", "", "region (default: that of the zone's edge)")
	flags.StringVar(&r.instance.Cluster, "cluster", "", "cluster")
	flags.StringVar(&r.instance.Version, "version", "", "version, which releases select")
	flags.StringArrayVar(&r.tags, "tag", nil, "further label, NAME=VALUE (repeatable)")
	flags.IntVar(&r.instance.Weight, "weight", federation.DefaultWeight, "share of requests relative to others, 0 to 1000")
	flags.IntVar(&r.instance.Capacity, "capacity", 0, "requests that it can work on at once (default: not declared)")
	flags.StringVar(&r.instance.HealthPath, "health-path", "", "path that edges probe (default: the service's, else /healthz)")
	flags.DurationVar(&r.ttl, "ttl", api.DefaultTTL, "how long it stays without a heartbeat, 1s to 24h")
	flags.StringSliceVar(&r.edges, "edges", nil, "URLs of the edges' APIs, the nearest first (default: $"+edgeEnv+", else "+defaultEdge+")")
	flags.StringVar(&r.instance.Address, "address", "", "IP address and port that edges reach it at")
	flags.IntVar(&r.port, "port", 0, "port that it listens on; the address is that of this host towards the first edge")
	flags.StringVar(&r.ready.path, "wait", "", "path that must answer 2xx before it is registered (default: that it listens)")
	flags.DurationVar(&r.ready.timeout, "wait-timeout", time.Minute, "how long it may take to listen")
	flags.DurationVar(&r.drainTimeout, "drain-timeout", 10*time.Second, "how long requests under way may take at the end")
	flags.DurationVar(&r.stopTimeout, "stop-timeout", 10*time.Second, "how long it may take to end after SIGTERM before it is killed")
	r.register(command)
	for _, flag := range []string{"service", "id", "zone", "region", "cluster", "version", "tag", "health-path", "edges", "address", "wait"} {
		complete(command, flag, cobra.NoFileCompletions)
	}
}

// options checks the flags as a whole.
func (r *registration) options(log *slog.Logger) (registrar.Options, error) {
	none := registrar.Options{}
	if len(r.edges) == 0 {
		r.edges = []string{defaultEdge}
		if env := os.Getenv(edgeEnv); env != "" {
			r.edges = strings.Split(env, ",")
		}
	}
	switch {
	case r.instance.Service == "":
		return none, usageError(errors.New("name the service that it serves: --service NAME"))
	case r.instance.Zone == "":
		return none, usageError(errors.New("name the zone that it runs in: --zone NAME"))
	case (r.instance.Address == "") == (r.port == 0):
		return none, usageError(errors.New("say where it listens: --port N, or --address IP:PORT"))
	}
	if r.ready.path != "" && !strings.HasPrefix(r.ready.path, "/") {
		return none, usageError(fmt.Errorf("--wait: found %q, allowed a path beginning with /", r.ready.path))
	}
	if r.instance.Address == "" {
		address, err := addressTowards(r.edges[0], r.port)
		if err != nil {
			return none, err
		}
		r.instance.Address = address
	}
	if r.instance.ID == "" {
		r.instance.ID = defaultID(r.instance.Address)
	}
	if err := r.setTags(); err != nil {
		return none, usageError(err)
	}
	r.instance.TTL = federation.Duration(r.ttl)
	if err := r.instance.Validate(); err != nil {
		return none, usageError(flagErrors(err))
	}
	r.ready.address = r.instance.Address
	token, err := r.token()
	if err != nil {
		return none, err
	}
	trust, err := r.tls()
	if err != nil {
		return none, err
	}
	i := &r.instance
	return registrar.Options{
		Key: i.Key,
		Registration: api.Registration{
			Cluster: i.Cluster, Zone: i.Zone, Region: i.Region, Address: i.Address, Version: i.Version, Tags: i.Tags,
			Weight: &i.Weight, Capacity: i.Capacity, HealthPath: i.HealthPath, TTL: &i.TTL,
		},
		Edges: r.edges, Token: token, TLS: trust, Log: log,
	}, nil
}

// run keeps the program registered until it ends or ctx does, and returns when
// the program has ended and the instance is out. The error is about the
// registration alone.
func (r *registration) run(ctx context.Context, p *child, keeper *registrar.Registrar, log *slog.Logger) error {
	relaying, stopRelay := context.WithCancel(context.WithoutCancel(ctx))
	relayed := make(chan struct{})
	go func() {
		defer close(relayed)
		p.relay(relaying)
	}()
	defer func() { stopRelay(); <-relayed }()
	defer p.stop(r.stopTimeout)

	serving, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		<-p.exited
		cancel()
	}()
	if err := r.ready.await(serving, p.name); err != nil {
		if serving.Err() != nil {
			return nil // it ended, or was told to, before it served
		}
		return err
	}

	// Not derived from ctx: the heartbeats go on while it drains.
	beating, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	kept := make(chan error, 1)
	go func() { kept <- keeper.Run(beating) }()
	select {
	case err := <-kept:
		return err
	case <-serving.Done():
	}
	if ctx.Err() != nil {
		r.drain(beating, p, keeper, log)
		p.stop(r.stopTimeout)
	}
	stop()
	leaving, cancelLeaving := context.WithTimeout(context.WithoutCancel(ctx), leaveTimeout)
	defer cancelLeaving()
	if err := keeper.Deregister(leaving); err != nil {
		log.Warn("instance is left to its ttl", "instance", r.instance.Key, "error", err)
	} else {
		log.Info("instance is deregistered", "instance", r.instance.Key)
	}
	return <-kept
}

// drain waits until the edges have nothing at the instance any more, the
// program ends, or the time is up.
func (r *registration) drain(ctx context.Context, p *child, keeper *registrar.Registrar, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(ctx, r.drainTimeout)
	defer cancel()
	go func() {
		<-p.exited
		cancel()
	}()
	log.Info("instance drains", "instance", r.instance.Key, "at_most", r.drainTimeout)
	err := keeper.Drain(ctx)
	if err == nil {
		err = keeper.AwaitIdle(ctx)
	}
	if err != nil {
		log.Warn("drain was cut short", "instance", r.instance.Key, "error", err)
	}
}

func (r *registration) setTags() error {
	if len(r.tags) == 0 {
		return nil
	}
	r.instance.Tags = make(map[string]string, len(r.tags))
	for _, tag := range r.tags {
		name, value, ok := strings.Cut(tag, "=")
		if !ok {
			return fmt.Errorf("--tag takes NAME=VALUE and got %q", tag)
		}
		if _, twice := r.instance.Tags[name]; twice {
			return fmt.Errorf("--tag takes each name once and got %q twice", name)
		}
		r.instance.Tags[name] = value
	}
	return nil
}

// flagErrors names flags where a validation named fields.
func flagErrors(err error) error {
	fields, ok := errors.AsType[federation.FieldErrors](err)
	if !ok {
		return err
	}
	flags := make(federation.FieldErrors, len(fields))
	for n, f := range fields {
		switch name, _, _ := strings.Cut(f.Field, "."); name {
		case "tags":
			f.Field = "--tag"
		case "healthPath":
			f.Field = "--health-path"
		default:
			f.Field = "--" + name
		}
		flags[n] = f
	}
	return flags
}

// addressTowards is the address of this host that packets to an edge carry.
func addressTowards(edge string, port int) (string, error) {
	u, err := url.Parse(edge)
	if err != nil || u.Hostname() == "" {
		return "", usageError(fmt.Errorf("--edges: found %q, allowed http://host:port or https://host:port", edge))
	}
	if port < 1 || port > 65535 {
		return "", usageError(fmt.Errorf("--port: found %d, allowed 1 to 65535", port))
	}
	// UDP "connects" without sending anything.
	conn, err := net.Dial("udp", net.JoinHostPort(u.Hostname(), "9"))
	if err != nil {
		return "", fmt.Errorf("find this host's address towards %s: %w; name it with --address IP:PORT", edge, err)
	}
	defer func() { _ = conn.Close() }()
	host, _, err := net.SplitHostPort(conn.LocalAddr().String())
	if err != nil {
		return "", fmt.Errorf("find this host's address towards %s: %w", edge, err)
	}
	return net.JoinHostPort(host, strconv.Itoa(port)), nil
}

// defaultID is the host's name and the port, as far as ids allow.
func defaultID(address string) string {
	host, err := os.Hostname()
	if err != nil || !federation.ValidName(host) {
		host = "instance"
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return host // Validate names the address
	}
	return host + "-" + port
}

package main

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"text/template"
)

//go:embed configs
var configs embed.FS

// render executes one of the embedded templates.
func render(name string, data any) ([]byte, error) {
	t, err := template.New(name).Option("missingkey=error").ParseFS(configs, "configs/"+name)
	if err != nil {
		return nil, fmt.Errorf("parse template %s: %w", name, err)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, data); err != nil {
		return nil, fmt.Errorf("fill template %s: %w", name, err)
	}
	return out.Bytes(), nil
}

func renderTo(path, name string, data any) error {
	text, err := render(name, data)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	return nil
}

// Names of what takes part; direct is the load generator straight on the origin.
const (
	peerDirect  = "direct"
	peerNginx   = "nginx"
	peerHAProxy = "haproxy"
	peerCaddy   = "caddy"
	peerStock   = "go" // net/http and its reverse proxy
	peerGrayfed = "grayfed"
)

func peerNames() []string {
	return []string{peerDirect, peerNginx, peerHAProxy, peerCaddy, peerStock, peerGrayfed}
}

// entrance is where clients connect to a proxy, and with what.
type entrance struct {
	listen netip.AddrPort
	speaks protocol
	cert   certificate
}

// proxy is one running proxy. Its root process and all below it are what is
// measured; companions (an etcd, say) are not.
type proxy struct {
	entrance
	root *child
	// stop ends everything of the proxy.
	stop func() error
	// accessLog is a file that grows with the load, "" for none.
	accessLog string
}

// job is what every proxy is configured from.
type job struct {
	protocol
	certificate
	Dir       string // a folder of its own
	Listen    netip.AddrPort
	Stable    netip.AddrPort
	Canary    netip.AddrPort
	Tag       string
	Workers   int
	OpenFiles int
	AccessLog string // file, "" for off
	Root      bool   // running as root
	spare     []netip.AddrPort
}

func (j job) Port() uint16 { return j.Listen.Port() }

func (j job) entrance() entrance {
	return entrance{listen: j.Listen, speaks: j.protocol, cert: j.certificate}
}

// newJob makes the folder and chooses the port of one run of one proxy, and as
// many spare ports as asked for.
func (b *bench) newJob(speaks protocol, accessLog bool, spare int) (job, error) {
	dir, err := os.MkdirTemp(b.dir, "run-")
	if err != nil {
		return job{}, fmt.Errorf("make a folder for the run: %w", err)
	}
	ports, err := freePorts(1 + spare)
	if err != nil {
		return job{}, err
	}
	j := job{
		protocol: speaks, certificate: b.cert,
		Dir: dir, Listen: ports[0], Stable: b.stable.addr, Canary: b.canary.addr, Tag: canaryRelease,
		Workers: b.settings.Workers, OpenFiles: b.openFiles, Root: os.Geteuid() == 0,
		spare: ports[1:],
	}
	if accessLog {
		j.AccessLog = filepath.Join(dir, "access.log")
	}
	return j, nil
}

func (b *bench) startNginx(_ context.Context, speaks protocol, accessLog bool) (*proxy, error) {
	j, err := b.newJob(speaks, accessLog, 0)
	if err != nil {
		return nil, err
	}
	config := filepath.Join(j.Dir, "nginx.conf")
	if err := renderTo(config, "nginx.conf.tmpl", j); err != nil {
		return nil, err
	}
	return startSingle(j, command{
		Name: peerNginx, Path: b.programs[peerNginx], Dir: j.Dir,
		Args: []string{"-p", j.Dir, "-c", config, "-e", filepath.Join(j.Dir, "error.log")},
		// The master must live long enough to end its workers.
		Death: syscall.SIGTERM,
	})
}

func (b *bench) startHAProxy(_ context.Context, speaks protocol) (*proxy, error) {
	j, err := b.newJob(speaks, false, 0)
	if err != nil {
		return nil, err
	}
	config := filepath.Join(j.Dir, "haproxy.cfg")
	if err := renderTo(config, "haproxy.cfg.tmpl", j); err != nil {
		return nil, err
	}
	return startSingle(j, command{
		Name: peerHAProxy, Path: b.programs[peerHAProxy], Dir: j.Dir,
		Args: []string{"-db", "-f", config}, Death: syscall.SIGKILL,
	})
}

func (b *bench) startCaddy(_ context.Context, speaks protocol) (*proxy, error) {
	j, err := b.newJob(speaks, false, 0)
	if err != nil {
		return nil, err
	}
	config := filepath.Join(j.Dir, "Caddyfile")
	if err := renderTo(config, "Caddyfile.tmpl", j); err != nil {
		return nil, err
	}
	return startSingle(j, command{
		Name: peerCaddy, Path: b.programs[peerCaddy], Dir: j.Dir,
		Args:  []string{"run", "--config", config, "--adapter", "caddyfile"},
		Env:   []string{"HOME=" + j.Dir, "XDG_DATA_HOME=" + j.Dir, "XDG_CONFIG_HOME=" + j.Dir, "GOMAXPROCS=" + strconv.Itoa(j.Workers)},
		Death: syscall.SIGKILL,
	})
}

// startSingle starts a proxy that is one process with what it forks itself.
func startSingle(j job, c command) (*proxy, error) {
	p, err := start(c)
	if err != nil {
		return nil, err
	}
	return &proxy{entrance: j.entrance(), root: p, stop: p.end, accessLog: j.AccessLog}, nil
}

// backend is one running origin.
type backend struct {
	*child
	addr netip.AddrPort
}

func startOrigin(dir, release string) (*backend, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	p, err := start(command{
		Name: "origin-" + release, Path: self, Dir: dir,
		Args:  []string{originCommand, "-release", release},
		Death: syscall.SIGKILL, FirstLine: true,
	})
	if err != nil {
		return nil, err
	}
	addr, err := listenAddress(p.line)
	if err != nil {
		return nil, errors.Join(err, p.end())
	}
	return &backend{child: p, addr: addr}, nil
}

// freePorts returns loopback addresses nobody listens on. They are below the
// usual ephemeral ports, so that no outgoing connection takes one before its
// proxy does.
func freePorts(n int) ([]netip.AddrPort, error) {
	ports := make([]netip.AddrPort, 0, n)
	var held []net.Listener
	defer func() {
		for _, l := range held {
			_ = l.Close() // nothing was accepted on it
		}
	}()
	var last error
	for try := 0; len(ports) < n && try < 1000; try++ {
		addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(20000+rand.IntN(10000)))
		l, err := net.Listen("tcp4", addr.String())
		if err != nil {
			last = err
			continue
		}
		held = append(held, l)
		ports = append(ports, addr)
	}
	if len(ports) < n {
		return nil, fmt.Errorf("find %d free ports: %w", n, last)
	}
	return ports, nil
}

// findProgram looks a program up, also where a user's PATH often does not.
func findProgram(name string) (string, error) {
	if strings.ContainsRune(name, '/') {
		path, err := filepath.Abs(name)
		if err != nil {
			return "", fmt.Errorf("find %s: %w", name, err)
		}
		if _, err := exec.LookPath(path); err != nil {
			return "", fmt.Errorf("find %s: %w", name, err)
		}
		return path, nil
	}
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/local/sbin", "/usr/sbin", "/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is not installed: run cmd/peerbench/install.sh, which installs it from Debian's packages", name)
}

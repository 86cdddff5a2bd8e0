package chaos

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/grayfed/grayfed/chaos/fault"
	"github.com/grayfed/grayfed/edge/api"
)

// targetFile describes a real deployment.
type targetFile struct {
	Name  string     `yaml:"name"`
	Edges []fileEdge `yaml:"edges"`
	// CAFile is whom the load trusts on the edges' TLS data listeners; empty:
	// the system's roots.
	CAFile string `yaml:"ca_file"`
	DNS    struct {
		Servers []string `yaml:"servers"` // ip:port
		Name    string   `yaml:"name"`
	} `yaml:"dns"`
	Request fileRequest        `yaml:"request"`
	Faults  map[string]command `yaml:"faults"` // by kind
}

type fileEdge struct {
	// Zone is the name that drills have for it: az1, az2, az3 in the
	// catalogue.
	Zone      string   `yaml:"zone"`
	Data      string   `yaml:"data"` // URL
	TLS       string   `yaml:"tls"`  // URL
	Addresses []string `yaml:"addresses"`
	Standby   bool     `yaml:"standby"`
	Admin     string   `yaml:"admin"` // URL
	TokenFile string   `yaml:"token_file"`
	CAFile    string   `yaml:"ca_file"`
}

type fileRequest struct {
	Path          string      `yaml:"path"`
	Host          string      `yaml:"host"`
	Baseline      string      `yaml:"baseline"`
	Permissive    fileRelease `yaml:"permissive"`
	Strict        fileRelease `yaml:"strict"`
	VersionHeader string      `yaml:"version_header"`
	ZoneHeader    string      `yaml:"zone_header"`
}

type fileRelease struct {
	Tag     string `yaml:"tag"`
	Version string `yaml:"version"`
}

// command breaks and mends faults of one kind.
type command struct {
	// Break and Mend are programs and their arguments, run without a shell in
	// the folder of the target file.
	// The fault is in their environment: GRAYFED_FAULT_KIND, _PARTS, _FROM, and
	// so on, lists one a line.
	Break []string `yaml:"break"`
	Mend  []string `yaml:"mend"`
	// Timeout bounds each, 30 s when left out, at most 10 min.
	Timeout time.Duration `yaml:"timeout"`
}

const (
	defaultCommandTimeout = 30 * time.Second
	maxCommandTimeout     = 10 * time.Minute
)

// ReadTarget reads a target file. Paths in it are relative to it. The caller
// closes the target. It asks nothing of the target yet.
func ReadTarget(file string) (*Target, error) {
	data, err := readFile(file)
	if err != nil {
		return nil, fmt.Errorf("target file: %w", err)
	}
	var f targetFile
	places, err := decode(file, data, &f)
	if err != nil {
		return nil, err
	}
	p := &problems{file: file, places: places}
	f.check(p)
	if err := p.err(); err != nil {
		return nil, err
	}
	// Not relative: what to run by hand is run from anywhere.
	dir, err := filepath.Abs(filepath.Dir(file))
	if err != nil {
		return nil, fmt.Errorf("target file: %w", err)
	}
	return f.target(dir)
}

func (f *targetFile) check(p *problems) {
	if f.Name == "" {
		p.add("name", "is missing")
	}
	if len(f.Edges) == 0 || len(f.Edges) > 64 {
		p.add("edges", "found %d, allowed 1 to 64", len(f.Edges))
	}
	zones := make(map[string]bool)
	for i, e := range f.Edges {
		path := fmt.Sprintf("edges[%d]", i)
		if e.Zone == "" || zones[e.Zone] {
			p.add(path+".zone", "found %q, allowed a name that no other edge here has", e.Zone)
		}
		zones[e.Zone] = true
		checkURL(p, path+".data", e.Data, "http", "https")
		checkURL(p, path+".admin", e.Admin, "http", "https")
		if e.TLS != "" {
			checkURL(p, path+".tls", e.TLS, "https")
		}
		for j, text := range e.Addresses {
			if _, err := netip.ParseAddr(text); err != nil {
				p.add(fmt.Sprintf("%s.addresses[%d]", path, j), "found %q, allowed an IP address", text)
			}
		}
	}
	for i, server := range f.DNS.Servers {
		if _, err := netip.ParseAddrPort(server); err != nil {
			p.add(fmt.Sprintf("dns.servers[%d]", i), "found %q, allowed ip:port", server)
		}
	}
	if (f.DNS.Name == "") != (len(f.DNS.Servers) == 0) {
		p.add("dns", "has one of servers and name; give both, or leave dns out")
	}
	if !strings.HasPrefix(f.Request.Path, "/") || strings.ContainsAny(f.Request.Path, " \t\r\n") {
		p.add("request.path", "found %q, allowed a path that begins with /", f.Request.Path)
	}
	for path, text := range map[string]string{
		"request.host": f.Request.Host, "request.permissive.tag": f.Request.Permissive.Tag, "request.strict.tag": f.Request.Strict.Tag,
	} {
		if strings.ContainsAny(text, " \t\r\n") {
			p.add(path, "found %q, allowed a word", text)
		}
	}
	if f.Request.Baseline == "" {
		p.add("request.baseline", "is missing: name the version that answers what has no tag")
	}
	for kind, c := range f.Faults {
		path := "faults." + kind
		if !slices.Contains(fault.Kinds(), kind) {
			p.add(path, "is no kind of fault; allowed are %s", strings.Join(fault.Kinds(), ", "))
		}
		if len(c.Break) == 0 || c.Break[0] == "" {
			p.add(path+".break", "is empty: name a program and its arguments")
		}
		if len(c.Mend) == 0 || c.Mend[0] == "" {
			p.add(path+".mend", "is empty: what is broken must be mended")
		}
		within(p, path+".timeout", c.Timeout, 0, maxCommandTimeout)
	}
}

func checkURL(p *problems, path, text string, schemes ...string) {
	u, err := url.Parse(text)
	if err != nil || !slices.Contains(schemes, u.Scheme) || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" {
		p.add(path, "found %q, allowed %s://host:port", text, strings.Join(schemes, ":// or "))
		return
	}
	if _, _, err := net.SplitHostPort(u.Host); u.Port() != "" && err != nil {
		p.add(path, "found %q, allowed %s://host:port", text, schemes[0])
	}
}

func (f *targetFile) target(dir string) (*Target, error) {
	t := &Target{
		Name: f.Name, DNS: DNS{Servers: f.DNS.Servers, Name: f.DNS.Name},
		Request: Request{
			Path: f.Request.Path, Host: f.Request.Host, Baseline: f.Request.Baseline,
			Permissive: Release(f.Request.Permissive), Strict: Release(f.Request.Strict),
			VersionHeader: f.Request.VersionHeader, ZoneHeader: f.Request.ZoneHeader,
		},
		Faults: commands{dir: dir, byKind: f.Faults},
	}
	if len(t.DNS.Servers) == 0 {
		t.Notes = append(t.Notes, f.Name+" has no DNS: all load goes straight to the edges, and nothing is judged by DNS")
	}
	var errs []error
	at := func(what string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", what, err))
		}
	}
	roots, err := readRoots(dir, f.CAFile)
	at("ca_file", err)
	t.Roots = roots
	for _, e := range f.Edges {
		where := "edge " + e.Zone + ": "
		edge := Edge{Zone: e.Zone, Data: e.Data, TLS: e.TLS, Standby: e.Standby}
		for _, text := range e.Addresses {
			addr, err := netip.ParseAddr(text)
			at(where+"addresses", err)
			edge.Addresses = append(edge.Addresses, addr)
		}
		roots, err := readRoots(dir, e.CAFile)
		at(where+"ca_file", err)
		options := api.ClientOptions{URL: e.Admin, Timeout: callTimeout, TLS: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}
		if e.TokenFile != "" {
			text, err := os.ReadFile(from(dir, e.TokenFile))
			at(where+"token_file", err)
			options.Token = strings.TrimSpace(string(text))
		}
		edge.Client, err = api.NewClient(options)
		at(where+"admin", err)
		t.Edges = append(t.Edges, edge)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("target %s: %w", f.Name, err)
	}
	return t, nil
}

func from(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// readRoots is nil, the system's roots, without a file.
func readRoots(dir, file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(from(dir, file))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s: found no certificate, allowed PEM", file)
	}
	return roots, nil
}

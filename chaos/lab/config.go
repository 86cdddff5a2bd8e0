package lab

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"text/template"
	"time"
)

const (
	// sampleService is the service that the sample instances serve.
	sampleService = "user-service"
	// SampleTag is the release of the sample service, and its version there.
	// Without a canary it falls back to the baseline.
	SampleTag = "v2-beta"
	// StrictTag is a release of the same version that does not fall back.
	StrictTag = "v2-strict"
	// Domain is what the edges' name servers answer for.
	Domain = "grayfed.test"
)

// Ports of every zone in namespaces.
const (
	dataPort     = 8081
	dataTLSPort  = 8443
	peerPort     = 8444
	adminPort    = 9081
	healthPort   = 9181
	gossipPort   = 7946
	etcdPort     = 2379
	etcdPeerPort = 2380
	dnsPort      = 53
)

var edgeTemplate = template.Must(template.New("edge.yaml").Parse(`# Written by the grayfed lab.
id: {{.Zone.Name}}-edge
cluster: {{.Zone.Name}}
zone: {{.Zone.Name}}
region: {{.Zone.Region}}
data_dir: {{printf "%q" .DataDir}}
documents: {{printf "%q" .Documents}}
listen:
  address: {{.Data}}
{{- with .Secured}}
listeners:
  - name: tls
    address: {{.DataTLS}}
    tls:
      certificates:
        - { cert_file: {{printf "%q" .DataPair.CertFile}}, key_file: {{printf "%q" .DataPair.KeyFile}} }
{{- end}}
admin:
  address: {{.Admin}}
{{- with .Secured}}
  health_address: {{.Health}}
  tls: { cert_file: {{printf "%q" .EdgePair.CertFile}}, key_file: {{printf "%q" .EdgePair.KeyFile}} }
  tokens_file: {{printf "%q" .Tokens}}
{{- end}}
etcd:
  endpoints: [{{range $n, $e := .Etcd}}{{if $n}}, {{end}}"http://{{$e}}"{{end}}]
gossip:
  bind: {{.Gossip}}
  peers: [{{range $n, $p := .Peers}}{{if $n}}, {{end}}"{{$p}}"{{end}}]
{{- with .Secured}}
  key_file: {{printf "%q" .GossipKey}}
reach: {{.Reach}}
peer:
  address: {{.Peer}}
  tls:
    ca_file: {{printf "%q" .CA}}
    cert_file: {{printf "%q" .EdgePair.CertFile}}
    key_file: {{printf "%q" .EdgePair.KeyFile}}
consul:
  address: http://{{.Consul}}
{{- end}}
{{- with .DNS}}
failover:
  role: {{.Role}}
  {{- if .Primaries}}
  primaries: [{{range $n, $p := .Primaries}}{{if $n}}, {{end}}{{$p}}{{end}}]
  {{- end}}
  hold: {{.Hold}}
  step_every: {{.StepEvery}}
dns:
  address: {{.Address}}
  domain: {{.Domain}}
{{- end}}
log:
  format: text
  access: {{.AccessLog}}
`))

var documents = template.Must(template.New("documents.yaml").Parse(`# Written by the grayfed lab: one service, its canaries, one route.
apiVersion: grayfed/v1
kind: Service
metadata: { name: user-service }
spec:
  baseline: { version: v1 }
---
apiVersion: grayfed/v1
kind: Release
metadata: { name: v2-beta }
spec:
  services:
    user-service: { version: v2-beta }
  fallback: permissive
{{- if .Strict}}
---
apiVersion: grayfed/v1
kind: Release
metadata: { name: v2-strict }
spec:
  services:
    user-service: { version: v2-beta }
  fallback: strict
{{- end}}
---
apiVersion: grayfed/v1
kind: Route
metadata: { name: api-v1-users }
spec:
  path: "/api/v1/users/**"
  methods: ["GET", "POST"]
  upstream: user-service
  tags: any
  explain: true
`))

// A lab waits less than a real federation before an edge that came back gets
// clients: nobody would wait for it. How fast one that is gone loses them is as
// it is by default.
const (
	hold      = 2 * time.Second
	stepEvery = 500 * time.Millisecond
)

// dnsSettings are what an edge needs to answer DNS.
type dnsSettings struct {
	Role      string
	Primaries []string
	Hold      time.Duration
	StepEvery time.Duration
	Address   string
	Domain    string
}

// dnsOf is nil where a zone has no port for it.
func (l *Lab) dnsOf(z Zone) *dnsSettings {
	if z.DNS == 0 {
		return nil
	}
	s := &dnsSettings{Role: "primary", Hold: hold, StepEvery: stepEvery, Address: l.at(z.Name, z.DNS), Domain: Domain}
	if l.standby(z) {
		s.Role = "standby"
		for _, other := range l.opts.Zones {
			if !l.standby(other) {
				s.Primaries = append(s.Primaries, other.Name)
			}
		}
	}
	return s
}

// standby: the zones of the first one's region take clients, the others stand
// in for them.
func (l *Lab) standby(z Zone) bool { return z.Region != l.opts.Zones[0].Region }

// secured is what an edge has off loopback beside what it has on it.
type secured struct {
	DataTLS, Health, Peer, Consul string // addresses
	DataPair, EdgePair            keyPair
	Tokens, GossipKey, CA         string // files
	Reach                         string
}

// Documents is the path of the file with a zone's documents. On loopback all
// zones read the same one.
func (l *Lab) Documents(zone string) string {
	if !l.opts.Namespaces {
		return filepath.Join(l.dir, "documents.yaml")
	}
	return filepath.Join(l.dir, zone, "documents.yaml")
}

func (l *Lab) edgeFile(z Zone) string { return filepath.Join(l.dir, z.Name, "edge.yaml") }

// writeConfig writes each zone's edge.yaml and documents.
func (l *Lab) writeConfig() error {
	if l.opts.Namespaces {
		if err := l.writeSecrets(); err != nil {
			return err
		}
	}
	var text bytes.Buffer
	if err := documents.Execute(&text, map[string]bool{"Strict": !l.opts.OneRelease}); err != nil {
		return fmt.Errorf("write documents: %w", err)
	}
	for n, z := range l.opts.Zones {
		dataDir := filepath.Join(l.dir, z.Name, "data")
		if err := os.MkdirAll(dataDir, 0o755); err != nil {
			return fmt.Errorf("data folder of %s: %w", z.Name, err)
		}
		if err := os.WriteFile(l.Documents(z.Name), text.Bytes(), 0o644); err != nil {
			return fmt.Errorf("write documents: %w", err)
		}
		values := map[string]any{
			"Zone": z, "DataDir": dataDir, "Documents": l.Documents(z.Name), "AccessLog": l.opts.AccessLog,
			"Data": l.at(z.Name, z.Data), "Admin": l.at(z.Name, z.Admin), "Gossip": l.at(z.Name, z.Gossip),
			"Etcd": l.etcdClients(n), "Peers": l.gossipPeers(z), "DNS": l.dnsOf(z),
		}
		if l.opts.Namespaces {
			s, err := l.secure(z)
			if err != nil {
				return err
			}
			values["Secured"] = s
		}
		var settings bytes.Buffer
		if err := edgeTemplate.Execute(&settings, values); err != nil {
			return fmt.Errorf("edge.yaml of %s: %w", z.Name, err)
		}
		if err := os.WriteFile(l.edgeFile(z), settings.Bytes(), 0o644); err != nil {
			return fmt.Errorf("edge.yaml of %s: %w", z.Name, err)
		}
	}
	return nil
}

func (l *Lab) gossipPeers(z Zone) []string {
	var peers []string
	for _, other := range l.opts.Zones {
		if other.Name != z.Name {
			peers = append(peers, l.at(other.Name, other.Gossip))
		}
	}
	return peers
}

// etcdClients are the addresses of all etcd members, that of zone number first
// ahead.
func (l *Lab) etcdClients(first int) []string {
	if !l.opts.Namespaces {
		return []string{loopback(l.opts.Etcd)}
	}
	var addresses []string
	for n := range l.opts.Zones {
		z := l.opts.Zones[(first+n)%len(l.opts.Zones)]
		addresses = append(addresses, l.at(z.Name, etcdPort))
	}
	return addresses
}

func (l *Lab) secretFile(name string) string { return filepath.Join(l.dir, "secrets", name) }

// writeSecrets makes the authority, the token and the gossip key of this lab.
func (l *Lab) writeSecrets() (err error) {
	if err := os.MkdirAll(l.secretFile(""), 0o700); err != nil {
		return fmt.Errorf("folder of secrets: %w", err)
	}
	if l.authority, err = newAuthority(l.secretFile("")); err != nil {
		return err
	}
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		return fmt.Errorf("make the gossip key: %w", err)
	}
	l.token = rand.Text()
	for name, text := range map[string]string{
		"gossip.key": base64.StdEncoding.EncodeToString(key),
		"tokens":     "write " + l.token,
		"token":      l.token,
	} {
		if err := replace(l.secretFile(name), []byte(text+"\n")); err != nil {
			return err
		}
	}
	return nil
}

// secure issues a zone's certificates.
func (l *Lab) secure(z Zone) (*secured, error) {
	now := time.Now()
	edge, err := l.authority.issue(z.Name+"-edge", now.Add(-time.Hour), now.Add(lifetime), l.host(z.Name))
	if err != nil {
		return nil, err
	}
	if err := l.IssueCertificate(z.Name, now.Add(-time.Hour), now.Add(lifetime)); err != nil {
		return nil, err
	}
	return &secured{
		DataTLS: l.at(z.Name, dataTLSPort), Health: loopback(healthPort), Peer: l.at(z.Name, peerPort),
		Consul: loopback(consulPort), Reach: l.opts.Reach,
		DataPair: l.authority.pair(z.Name + "-data"), EdgePair: edge,
		Tokens: l.secretFile("tokens"), GossipKey: l.secretFile("gossip.key"), CA: l.secretFile("ca.crt"),
	}, nil
}

// lifetime is that of the lab's certificates.
const lifetime = 23 * time.Hour

// IssueCertificate replaces the certificate of a zone's TLS data listener; the
// edge takes it within a second or so. Without namespaces there is none.
func (l *Lab) IssueCertificate(zone string, notBefore, notAfter time.Time) error {
	if !l.opts.Namespaces {
		return fmt.Errorf("issue a certificate for %s: %w", zone, ErrNoNetwork)
	}
	if _, known := l.zone(zone); !known {
		return fmt.Errorf("issue a certificate: no zone %q", zone)
	}
	_, err := l.authority.issue(zone+"-data", notBefore, notAfter, "gateway."+Domain, l.host(zone))
	return err
}

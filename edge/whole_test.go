package edge

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/grayfed/grayfed/edge/api"
	"github.com/grayfed/grayfed/edge/config"
	"github.com/grayfed/grayfed/federation"
)

// whole is an edge with a cleartext and a TLS listener, which all protocols go
// through.
type whole struct {
	*running
	ca            *authority
	plain, secure string // addresses
}

// startWhole runs one on documents; tune may change its settings before.
func startWhole(t testing.TB, documents string, tune func(*config.Process), prepare ...func(*Edge)) *whole {
	t.Helper()
	etcd, _ := startEtcd(t)
	p := settings(t, "az1", etcd)
	w := &whole{ca: newAuthority(t)}
	writeFile(t, p.Documents, documents)
	p.Upstream.TLS.CAFile = w.ca.certFile
	p.Upstream.ConnectTimeout = 2 * time.Second // handshakes on a busy machine
	p.Listeners = []config.Listener{{
		Name: "secure", Address: "127.0.0.1:0", MaxConnections: 1000, HTTP2: true,
		TLS: &config.ListenTLS{Certificates: []config.Certificate{{CertFile: w.ca.certFile, KeyFile: w.ca.keyFile}}},
	}}
	p.Health.PanicThreshold = 0 // what is ejected gets nothing
	if tune != nil {
		tune(p)
	}
	w.running = start(t, p, prepare...)
	w.ready()
	w.plain, w.secure = w.edge.data.listeners[0].Address().String(), w.edge.data.listeners[1].Address().String()
	return w
}

// register makes an address the only instance of a version of a service, and
// waits until the edge sends there.
func (w *whole) register(service, version, address string, protocol federation.Protocol) {
	w.t.Helper()
	w.registerAs(service+version, service, version, address, protocol)
}

// registerAs registers one of several.
func (w *whole) registerAs(id, service, version, address string, protocol federation.Protocol) {
	w.t.Helper()
	ttl := federation.Duration(0) // judged by probes: nobody sends heartbeats here
	_, err := w.api.Register(w.t.Context(), federation.Key{Service: service, ID: id}, api.Registration{
		Zone: "az1", Region: "east", Address: address, Version: version, Protocol: string(protocol), TTL: &ttl,
	}, api.WriteOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	eventually(w.t, "sends to "+service, func() error {
		x, err := w.api.Explain(w.t.Context(), api.ExplainRequest{Path: "/" + service + "/", Tag: version})
		if err == nil && x.Endpoint == nil {
			err = fmt.Errorf("no endpoint: %s", toJSON(x))
		}
		return err
	})
}

// client speaks one protocol and nothing else.
func (w *whole) client(protocols func(*http.Protocols)) *http.Client {
	transport := &http.Transport{Protocols: new(http.Protocols), TLSClientConfig: &tls.Config{RootCAs: w.ca.pool}}
	protocols(transport.Protocols)
	w.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// expectUnmoved requires that nothing that was asked of the edge was held against
// the instances of a service, and that none of it is still under way.
func (w *whole) expectUnmoved(service string) {
	w.t.Helper()
	// The gateway knows first.
	x, err := w.api.Explain(w.t.Context(), api.ExplainRequest{Path: "/" + service + "/"})
	if err != nil || x.Endpoint == nil {
		w.t.Errorf("%s was blamed: %s, %v", service, toJSON(x), err)
	}
	eventually(w.t, "nothing is under way", func() error {
		list, err := w.api.Instances(w.t.Context(), service)
		if err != nil {
			return err
		}
		for _, i := range list.Instances {
			if !i.Usable || i.Health.Percent != 100 {
				w.t.Fatalf("%s was blamed: %s", i.ID, toJSON(i))
			}
			if i.InFlight != 0 {
				return fmt.Errorf("%d in flight at %s", i.InFlight, i.ID)
			}
		}
		return nil
	})
	// One that came back since is as bad.
	for series, value := range w.series() {
		if strings.HasPrefix(series, "grayfed_health_ejections_total") && value != "0" {
			w.t.Errorf("%s is %s", series, value)
		}
	}
}

// series are the metrics of the edge, with their labels.
func (w *whole) series() map[string]string {
	w.t.Helper()
	response, err := http.Get("http://" + w.edge.admin.Address().String() + "/metrics")
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		w.t.Fatalf("metrics: %d, %v", response.StatusCode, err)
	}
	all := make(map[string]string)
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			at := strings.LastIndexByte(line, ' ')
			all[line[:at]] = line[at+1:]
		}
	}
	return all
}

package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"text/template"
	"time"

	"github.com/grayfed/grayfed/edge/api"
)

// callTimeout bounds one question to an edge.
const callTimeout = 2 * time.Second

// sampleService is the service that the sample instances serve.
const sampleService = "user-service"

// SampleTag is the release of the sample service.
const SampleTag = "v2-beta"

var edgeTemplate = template.Must(template.New("edge.yaml").Parse(`# Written by grayfed dev.
id: {{.Zone.Name}}-edge
cluster: {{.Zone.Name}}
zone: {{.Zone.Name}}
region: {{.Zone.Region}}
data_dir: {{printf "%q" .DataDir}}
documents: {{printf "%q" .Documents}}
listen:
  address: 127.0.0.1:{{.Zone.Data}}
admin:
  address: 127.0.0.1:{{.Zone.Admin}}
etcd:
  endpoints: ["http://127.0.0.1:{{.Etcd}}"]
gossip:
  bind: 127.0.0.1:{{.Zone.Gossip}}
  peers: [{{range $n, $p := .Peers}}{{if $n}}, {{end}}"{{$p}}"{{end}}]
log:
  format: text
  access: {{.AccessLog}}
`))

const documents = `# Written by grayfed dev: one service, one release, one route.
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
`

func (l *Lab) edgeFile(z Zone) string { return filepath.Join(l.dir, z.Name, "edge.yaml") }

// writeConfig writes each zone's edge.yaml and the documents, which all edges
// of a lab read from one file.
func (l *Lab) writeConfig() error {
	shared := filepath.Join(l.dir, "documents.yaml")
	if err := os.WriteFile(shared, []byte(documents), 0o644); err != nil {
		return fmt.Errorf("write documents: %w", err)
	}
	for _, z := range l.opts.Zones {
		var peers []string
		for _, other := range l.opts.Zones {
			if other.Name != z.Name {
				peers = append(peers, loopback(other.Gossip))
			}
		}
		dataDir := filepath.Join(l.dir, z.Name, "data")
		if err := os.MkdirAll(dataDir, 0o755); err != nil {
			return fmt.Errorf("data folder of %s: %w", z.Name, err)
		}
		var text bytes.Buffer
		err := edgeTemplate.Execute(&text, map[string]any{
			"Zone": z, "DataDir": dataDir, "Documents": shared,
			"Etcd": l.opts.Etcd, "Peers": peers, "AccessLog": l.opts.AccessLog,
		})
		if err != nil {
			return fmt.Errorf("edge.yaml of %s: %w", z.Name, err)
		}
		if err := os.WriteFile(l.edgeFile(z), text.Bytes(), 0o644); err != nil {
			return fmt.Errorf("edge.yaml of %s: %w", z.Name, err)
		}
	}
	return nil
}

// adminURLs lists the edges' HTTP APIs, the one of zone number first ahead:
// an instance registers with its own zone's edge and moves on from there.
func (l *Lab) adminURLs(first int) string {
	urls := make([]string, 0, len(l.opts.Zones))
	for n := range l.opts.Zones {
		z := l.opts.Zones[(first+n)%len(l.opts.Zones)]
		urls = append(urls, "http://"+loopback(z.Admin))
	}
	return strings.Join(urls, ",")
}

// ready reports the first edge that is not ready.
func (l *Lab) ready(ctx context.Context) error {
	for _, z := range l.opts.Zones {
		err := atEdge(z, func(edge *api.Client) error { return edge.Ready(ctx) })
		if err != nil {
			return fmt.Errorf("%s's edge: %w", z.Name, err)
		}
	}
	return nil
}

// serving asks each edge for all instances and, as a client would, for each
// version, and reports the first that does not answer with them.
func (l *Lab) serving(ctx context.Context) error {
	client := &http.Client{Timeout: callTimeout, Transport: &http.Transport{DisableKeepAlives: true}}
	for _, z := range l.opts.Zones {
		if err := l.complete(ctx, z); err != nil {
			return err
		}
		for _, tag := range []string{"", SampleTag} {
			if err := ask(ctx, client, z, tag); err != nil {
				return err
			}
		}
	}
	return nil
}

// complete reports an edge that does not know all instances yet.
func (l *Lab) complete(ctx context.Context, z Zone) error {
	want := 0
	for _, other := range l.opts.Zones {
		want += len(other.Versions)
	}
	return atEdge(z, func(edge *api.Client) error {
		list, err := edge.Instances(ctx, sampleService)
		if err != nil {
			return err
		}
		if got := len(list.Instances); got != want {
			return fmt.Errorf("%s's edge knows %d of %d instances", z.Name, got, want)
		}
		return nil
	})
}

// atEdge calls the HTTP API of a zone's edge.
func atEdge(z Zone, call func(*api.Client) error) error {
	client, err := api.NewClient(api.ClientOptions{URL: "http://" + loopback(z.Admin), Timeout: callTimeout})
	if err != nil {
		return err
	}
	defer client.Close()
	return call(client)
}

// ask sends one request through a zone's edge.
func ask(ctx context.Context, client *http.Client, z Zone, tag string) (err error) {
	url := "http://" + loopback(z.Data) + "/api/v1/users/42"
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	want := "v1"
	if tag != "" {
		want = tag
		request.Header.Set("x-release-tag", tag)
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s: %s", url, response.Status, bytes.TrimSpace(body))
	}
	var answer struct {
		Version string `json:"version"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return fmt.Errorf("GET %s: %w", url, err)
	}
	if answer.Version != want {
		return fmt.Errorf("GET %s with tag %q was answered by version %q", url, tag, answer.Version)
	}
	return nil
}

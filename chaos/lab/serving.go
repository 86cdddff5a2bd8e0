package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/grayfed/grayfed/edge/config"
)

// callTimeout bounds one question to an edge.
const callTimeout = 2 * time.Second

// ready reports the first edge that is not ready.
func (l *Lab) ready(ctx context.Context) error {
	for _, z := range l.opts.Zones {
		client, err := l.Client(z.Name)
		if err != nil {
			return err
		}
		err = client.Ready(ctx)
		client.Close()
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
			if err := ask(ctx, client, l.Edge(z.Name).Data, tag); err != nil {
				return err
			}
		}
	}
	return nil
}

// complete reports an edge that does not know all instances yet.
func (l *Lab) complete(ctx context.Context, z Zone) error {
	client, err := l.Client(z.Name)
	if err != nil {
		return err
	}
	defer client.Close()
	list, err := client.Instances(ctx, sampleService)
	if err != nil {
		return err
	}
	want := 0
	for _, other := range l.opts.Zones {
		want += len(other.Versions) * l.opts.Replicas
	}
	if got := len(list.Instances); got != want {
		return fmt.Errorf("%s's edge knows %d of %d instances", z.Name, got, want)
	}
	return nil
}

// resolving reports an edge that does not answer DNS with all primaries, at
// their full weights and confirmed by Consul, and no standby. On loopback that
// is not waited for: a name server answers from its first moment.
func (l *Lab) resolving(ctx context.Context) error {
	if !l.opts.Namespaces {
		return nil
	}
	for _, z := range l.opts.Zones {
		if err := l.resolves(ctx, z); err != nil {
			return fmt.Errorf("%s's edge: %w", z.Name, err)
		}
	}
	return nil
}

func (l *Lab) resolves(ctx context.Context, z Zone) error {
	client, err := l.Client(z.Name)
	if err != nil {
		return err
	}
	defer client.Close()
	f, err := client.Failover(ctx)
	if err != nil {
		return err
	}
	if len(f.Entries) != len(l.opts.Zones) {
		return fmt.Errorf("it knows %d of %d entries", len(f.Entries), len(l.opts.Zones))
	}
	full := config.DefaultFailover().Weight
	for _, e := range f.Entries {
		entryZone, _ := l.zone(e.Zone)
		switch standby := l.standby(entryZone); {
		case standby && e.SharePercent > 0:
			return fmt.Errorf("it sends clients to the standby %s", e.Edge)
		case !standby && (e.SharePercent <= 0 || e.Weight != full):
			return fmt.Errorf("it sends %.0f%% of the clients to %s, which has weight %d of %d", e.SharePercent, e.Edge, e.Weight, full)
		case !standby && e.Consul != alive:
			return fmt.Errorf("consul says %s of %s", e.Consul, e.Edge)
		}
	}
	if !f.Consul.Leader || !f.Consul.Registered {
		return fmt.Errorf("it is not registered with a leader of Consul: %s", f.Consul.Error)
	}
	return nil
}

// alive is a verdict on an entry.
const alive = "alive"

// ask sends one request through an edge.
func ask(ctx context.Context, client *http.Client, base, tag string) (err error) {
	url := base + "/api/v1/users/42"
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

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

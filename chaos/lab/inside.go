package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// inside sends one HTTP request from within a node, whatever is wrong between
// the nodes, and decodes the answer unless into is nil.
func (l *Lab) inside(ctx context.Context, node, method, address, path string, body, into any) (err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var content io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("%s %s: encode the body: %w", method, path, err)
		}
		content = bytes.NewReader(data)
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://"+address+path, content)
	if err != nil {
		return err
	}
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(ctx context.Context, _, address string) (net.Conn, error) { return l.dial(ctx, node, address) },
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, request.URL, err)
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	data, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, request.URL, err)
	}
	if response.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %s: %s", method, request.URL, response.Status, bytes.TrimSpace(data))
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("%s %s: %w", method, request.URL, err)
	}
	return nil
}

// EtcdLeader is the part that leads etcd. An error is also that nobody does.
func (l *Lab) EtcdLeader(ctx context.Context) (string, error) {
	type status struct {
		Header struct {
			Member string `json:"member_id"`
		} `json:"header"`
		Leader string `json:"leader"`
		Term   uint64 `json:"raftTerm,string"`
	}
	// A leader that is cut off believes in itself until it hears of a later
	// term.
	var latest status
	members := make(map[string]string)
	var failed error
	for _, p := range l.parts {
		if p.kind != etcdPart {
			continue
		}
		var s status
		if err := l.inside(ctx, p.node, http.MethodPost, p.address, "/v3/maintenance/status", struct{}{}, &s); err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		members[s.Header.Member] = p.name
		if s.Term > latest.Term || s.Term == latest.Term && latest.Leader == "" {
			latest = s
		}
	}
	if name, known := members[latest.Leader]; known {
		return name, nil
	}
	return "", errors.Join(errors.New("no member leads etcd now"), failed)
}

// Behave has an instance of the sample service answer errorPercent of its
// requests 503, and all of them late by delay, up to 1 min; 0 and 0 mend it. A
// restart mends it as well.
func (l *Lab) Behave(ctx context.Context, name string, errorPercent int, delay time.Duration) error {
	p, err := l.part(name)
	if err != nil {
		return err
	}
	if p.kind != instancePart {
		return fmt.Errorf("tell %s how to behave: it is no instance of the sample service", name)
	}
	address, err := l.addressOf(p)
	if err != nil {
		return err
	}
	body := map[string]any{"error_percent": errorPercent, "delay": delay.String()}
	if err := l.inside(ctx, p.node, http.MethodPut, address, "/chaos", body, nil); err != nil {
		return fmt.Errorf("tell %s how to behave: %w", name, err)
	}
	return nil
}

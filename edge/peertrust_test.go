package edge

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/grayfed/grayfed/edge/config"
	"github.com/grayfed/grayfed/federation"
)

// hopFrom is what an edge would say.
const hopFrom = "from=az2-edge;hops=1;service=users;release=v2-beta;selects=%x;client=10.9.8.7"

// TestForgedHopFields: what edges tell each other counts from nobody else.
func TestForgedHopFields(t *testing.T) {
	f := newPeered(t)
	az1 := f.start("az1-edge", "az1", releaseDocuments("permissive"))
	address := f.ca.serve(t, federation.HTTP1, func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewEncoder(w).Encode(received{r.Proto, r.RequestURI, r.Host, r.Header})
	})
	f.register("stable", "az1", "v1", address)
	f.serve("canary", "az1", "v2-beta")
	az1.leads("", "stable")
	az1.leads("v2-beta", "canary")
	client := clientFrom(t, "127.0.0.9")
	for _, name := range []string{"X-Gray-Hop", "x-gray-hop", "x_gray_hop", "X.Gray_Hop"} {
		response, text := do(t, client, http.MethodGet, az1.url("/users/1"), http.NoBody, name, fmt.Sprintf(hopFrom, 1), name, "from=b")
		var got received
		if err := json.Unmarshal([]byte(text), &got); err != nil || response.status != http.StatusOK {
			t.Fatalf("%s: %d %s, %v", name, response.status, text, err)
		}
		if seen := toJSON(got); strings.Contains(strings.ToLower(seen), "hop") || got.Header.Get("X-Forwarded-For") != "127.0.0.9" || strings.Contains(seen, "10.9.8.7") {
			t.Errorf("%s: the origin sees %s", name, seen)
		}
		if decision := response.header.Get("x-gray-decision"); !strings.Contains(decision, "rung=baseline-here; reason=untagged") {
			t.Errorf("%s: decision %q", name, decision)
		}
	}
	if got := az1.counted("grayfed_peer_requests_total"); len(got) != 0 {
		t.Errorf("counted as from an edge: %v", got)
	}
}

// TestEdgesGoByTheirCertificates: one that shows another's certificate is taken for
// that other one.
func TestEdgesGoByTheirCertificates(t *testing.T) {
	f := newPeered(t)
	documents := releaseDocuments("strict")
	az1 := f.start("az1-edge", "az1", documents, func(p *config.Process) { p.Peer.TLS = f.peers.issue("az3-edge") })
	az2 := f.start("az2-edge", "az2", documents)
	f.start("az3-edge", "az3", documents)
	f.meet()
	f.serve("canary", "az2", "v2-beta")
	az1.leads("v2-beta", "canary")
	az2.leads("v2-beta", "canary")
	response, _ := do(t, clientFrom(t, "127.0.0.1"), http.MethodGet, az1.url("/users/1"), http.NoBody, "X-Release-Tag", "v2-beta")
	if response.status != http.StatusOK {
		t.Fatalf("status %d", response.status)
	}
	if got := az2.counted("grayfed_peer_requests_total"); toJSON(got) != `{"edge=\"az3-edge\",outcome=\"served\"":"1"}` {
		t.Errorf("az2 counts %v", got)
	}
	eventually(t, "line in the access log", func() error {
		if log := az2.log.String(); !strings.Contains(log, `"from_edge":"az3-edge"`) {
			return errors.New(log)
		}
		return nil
	})
}

// TestOnlyEdgesAreLetIn: the listener for other edges takes those whose
// certificate their authority has signed, and only while it has.
func TestOnlyEdgesAreLetIn(t *testing.T) {
	f := newPeered(t)
	az1 := f.start("az1-edge", "az1", releaseDocuments("strict"))
	stranger := newPeerAuthority(t)
	f.peers, stranger = stranger, f.peers
	az2 := f.start("az2-edge", "az2", releaseDocuments("strict"))
	f.peers, stranger = stranger, f.peers
	f.meet()
	f.serve("canary", "az2", "v2-beta")
	az1.leads("v2-beta", "canary")
	az2.leads("v2-beta", "canary")
	client := clientFrom(t, "127.0.0.1")
	response, text := do(t, client, http.MethodGet, az1.url("/users/1"), http.NoBody, "X-Release-Tag", "v2-beta")
	if response.status != http.StatusBadGateway || !strings.Contains(text, "connect-failed") {
		t.Errorf("through an edge of another authority: %d %s", response.status, text)
	}
	if got := az2.counted("grayfed_peer_requests_total"); len(got) != 0 {
		t.Errorf("az2 let in %v", got)
	}

	address := az1.edge.peering.listener.Address().String()
	shake := func(files *config.TLSFiles) error {
		c := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}
		if files != nil {
			pair, err := tls.LoadX509KeyPair(files.CertFile, files.KeyFile)
			if err != nil {
				t.Fatal(err)
			}
			c.Certificates = []tls.Certificate{pair}
		}
		conn, err := tls.Dial("tcp", address, c)
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		// In TLS 1.3 a client learns of its refusal by reading: its server
		// greets first.
		_, err = conn.Read(make([]byte, 1))
		return err
	}
	own, foreign := f.peers.issue("az9-edge"), stranger.issue("az9-edge")
	if err := shake(&own); err != nil {
		t.Errorf("an edge is refused: %v", err)
	}
	if err := shake(&foreign); err == nil {
		t.Error("a certificate of another authority is taken")
	}
	if err := shake(nil); err == nil {
		t.Error("a client without a certificate is let in")
	}
	// What edges say of a request is taken from nobody without one, either.
	plain := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+address+"/users/1", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if response, err := plain.Do(request); err == nil {
		_ = response.Body.Close()
		t.Errorf("a client without a certificate is answered %d", response.StatusCode)
	}
	// The authority of both is replaced while they run.
	ca, err := os.ReadFile(stranger.caFile)
	if err != nil {
		t.Fatal(err)
	}
	mine, err := os.ReadFile(f.peers.caFile)
	if err != nil {
		t.Fatal(err)
	}
	both := string(bytes.Join([][]byte{ca, mine}, nil))
	writeFile(t, f.peers.caFile, both)
	writeFile(t, stranger.caFile, both)
	eventually(t, "served once both are trusted", func() error {
		response, text := do(t, client, http.MethodGet, az1.url("/users/1"), http.NoBody, "X-Release-Tag", "v2-beta")
		if response.status != http.StatusOK || text != "canary 0" {
			return fmt.Errorf("%d %s", response.status, text)
		}
		return nil
	})
}

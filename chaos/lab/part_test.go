package lab

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/grayfed/grayfed/edge/api"
)

func testParts(t *testing.T, s *started) {
	want := []string{
		"az1/etcd", "az2/etcd", "az3/etcd", "az1/consul", "az2/consul", "az3/consul", "w1/consul", "w2/consul",
		"az1/edge", "az2/edge", "az3/edge", "az1/user-service v1", "az1/user-service v2-beta",
		"az2/user-service v1", "az2/user-service v2-beta", "az3/user-service v1",
	}
	if got := s.Parts(); strings.Join(got, ",") != strings.Join(want, ",") {
		t.Errorf("parts are %q", got)
	}
	if got := strings.Join(s.Nodes(), ","); got != "az1,az2,az3,w1,w2" {
		t.Errorf("nodes are %q", got)
	}
	if caFile, tokenFile := s.Credentials(); !filepath.IsAbs(caFile) || !filepath.IsAbs(tokenFile) {
		t.Errorf("credentials are in %q and %q", caFile, tokenFile)
	}
	for node, want := range map[string]string{"w2": s.network.slot.prefix() + "w2", "client": "", "az9": ""} {
		if got := s.Namespace(node); got != want {
			t.Errorf("namespace of %s is %q, want %q", node, got, want)
		}
	}
	for _, part := range want {
		pid, err := s.Pid(part)
		if err != nil || syscall.Kill(pid, 0) != nil {
			t.Errorf("%s has process %d, %v", part, pid, err)
		}
	}
}

// testNameServers: every edge's sends clients to a primary.
func testNameServers(t *testing.T, s *started) {
	if len(s.DNSServers()) != 3 {
		t.Errorf("name servers are %v", s.DNSServers())
	}
	for _, server := range s.DNSServers() {
		resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, server)
		}}
		got, err := resolver.LookupHost(t.Context(), "gateway."+Domain+".")
		if err != nil || len(got) != 1 || got[0] != s.host("az1") && got[0] != s.host("az2") {
			t.Errorf("%s resolves the gateway to %q, %v", server, got, err)
		}
	}
}

// testPartition: a client that cannot reach one zone reaches the others, and
// the zones reach each other.
func testPartition(t *testing.T, s *started) {
	done(t, s.Block("client", "az1", true))
	if err := s.asks("az1", "", patience); !os.IsTimeout(err) {
		t.Errorf("az1 behind a partition: %v", err)
	}
	done(t, s.asks("az2", SampleTag, callTimeout))
	done(t, s.Block("client", "az1", false))
	s.serves("az1")
	done(t, s.Block("az1", "client", true)) // its answers
	if err := s.asks("az1", "", patience); !os.IsTimeout(err) {
		t.Errorf("az1 behind a partition of its answers: %v", err)
	}
	done(t, s.Block("az1", "client", false))
	s.serves("az1")
}

func testKillAndStart(t *testing.T, s *started) {
	const part = "az1/edge"
	before, err := s.Pid(part)
	done(t, err)
	if err := s.Start(t.Context(), part); err == nil || !strings.Contains(err.Error(), "it runs") {
		t.Errorf("start of what runs: %v", err)
	}
	done(t, s.Signal(part, 0))
	done(t, s.Signal(part, syscall.SIGKILL))
	if err := s.asks("az1", "", callTimeout); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a request to an edge that was killed: %v", err)
	}
	for name, err := range map[string]error{
		"pid":      func() error { _, err := s.Pid(part); return err }(),
		"signal 0": s.Signal(part, 0), "signal": s.Signal(part, syscall.SIGTERM),
	} {
		if !errors.Is(err, os.ErrProcessDone) {
			t.Errorf("%s of a part that has ended: %v", name, err)
		}
	}
	done(t, s.Start(t.Context(), part))
	if after, err := s.Pid(part); err != nil || after == before {
		t.Errorf("process %d is %d after a restart, %v", before, after, err)
	}
	s.serves("az1")

	// What is told to end ends, and the lab goes on.
	const instance = "az3/user-service v1"
	done(t, s.Signal(instance, syscall.SIGTERM))
	eventually(t, "the instance ends", func() error {
		if _, err := s.Pid(instance); !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("it runs: %w", err)
		}
		return nil
	})
	done(t, s.Start(t.Context(), instance))
	eventually(t, "all is as it was", func() error { return s.serving(t.Context()) })
}

func testFreeze(t *testing.T, s *started) {
	done(t, s.Signal("az2/edge", syscall.SIGSTOP))
	if err := s.asks("az2", "", patience); !os.IsTimeout(err) {
		t.Errorf("a request to a frozen edge: %v", err)
	}
	done(t, s.Signal("az2/edge", syscall.SIGCONT))
	s.serves("az2")
}

func testEtcdLeader(t *testing.T, s *started) {
	first, err := s.EtcdLeader(t.Context())
	done(t, err)
	done(t, s.Signal(first, syscall.SIGKILL))
	eventually(t, "another leads", func() error {
		next, err := s.EtcdLeader(t.Context())
		if err == nil && next == first {
			err = fmt.Errorf("%s leads", next)
		}
		return err
	})
	done(t, s.Start(t.Context(), first))
}

func testConsul(t *testing.T, s *started) {
	done(t, s.Signal("w1/consul", syscall.SIGKILL))
	if err := s.consulLeads(t.Context()); err == nil {
		t.Error("Consul is whole without one of its servers")
	}
	done(t, s.Start(t.Context(), "w1/consul"))
	eventually(t, "it is whole again", func() error { return s.consulLeads(t.Context()) })
}

func testBehave(t *testing.T, s *started) {
	const part = "az1/user-service v1"
	p, err := s.part(part)
	done(t, err)
	address, err := s.addressOf(p)
	done(t, err)
	get := func() error {
		return s.inside(t.Context(), "az1", http.MethodGet, address, "/api/v1/users/1", nil, nil)
	}
	done(t, get())
	done(t, s.Behave(t.Context(), part, 100, 0))
	if err := get(); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("an instance that was told to fail: %v", err)
	}
	done(t, s.Behave(t.Context(), part, 0, 0))
	done(t, get())
	if err := s.Behave(t.Context(), part, 101, 0); err == nil {
		t.Error("101% of errors are accepted")
	}
	if err := s.Behave(t.Context(), "az1/edge", 0, 0); err == nil {
		t.Error("an edge is told how to behave")
	}
}

// testCertificate: an expired one does not take the place of a valid one, and a
// renewed one does.
func testCertificate(t *testing.T, s *started) {
	handshake := func() (notAfter time.Time, err error) {
		dialer := &tls.Dialer{Config: &tls.Config{RootCAs: s.CA(), ServerName: "gateway." + Domain}}
		conn, err := dialer.DialContext(t.Context(), "tcp", strings.TrimPrefix(s.Edge("az1").DataTLS, "https://"))
		if err != nil {
			return time.Time{}, err
		}
		return conn.(*tls.Conn).ConnectionState().PeerCertificates[0].NotAfter, conn.Close()
	}
	before, err := handshake()
	done(t, err)
	now := time.Now()
	done(t, s.IssueCertificate("az1", now.Add(-2*time.Hour), now.Add(-time.Hour)))
	eventually(t, "az1 refuses the expired certificate", func() error {
		if !strings.Contains(s.log.String(), "has expired at") {
			return errors.New("it has not said so")
		}
		return nil
	})
	if after, err := handshake(); err != nil || !after.Equal(before) {
		t.Errorf("a certificate until %s is served, %v, want the one until %s", after, err, before)
	}
	renewed := now.Add(time.Hour).Truncate(time.Second)
	done(t, s.IssueCertificate("az1", now.Add(-time.Hour), renewed))
	eventually(t, "clients see the new certificate", func() error {
		after, err := handshake()
		if err == nil && !after.Equal(renewed) {
			err = fmt.Errorf("the one until %s is served", after)
		}
		return err
	})
}

// testClockAndDocuments: new documents are applied at the time of the edge's own
// clock, which is set off, and by no other edge.
func testClockAndDocuments(t *testing.T, s *started) {
	applied := func(zone string) (*api.Federation, error) {
		client, err := s.Client(zone)
		if err != nil {
			return nil, err
		}
		defer client.Close()
		return client.Federation(t.Context())
	}
	before, err := applied("az2")
	done(t, err)
	done(t, os.WriteFile(s.ClockFile("az1"), []byte("+1000h"), 0o644))
	file := s.Documents("az1")
	text, err := os.ReadFile(file)
	done(t, err)
	done(t, replace(file, bytes.ReplaceAll(text, []byte(`"GET", "POST"`), []byte(`"GET"`))))
	eventually(t, "az1 applies them in the future", func() error {
		f, err := applied("az1")
		if err == nil && time.Until(f.Documents.AppliedAt) < 900*time.Hour {
			err = fmt.Errorf("applied at %s", f.Documents.AppliedAt)
		}
		return err
	})
	if after, err := applied("az2"); err != nil || !after.Documents.AppliedAt.Equal(before.Documents.AppliedAt) {
		t.Errorf("az2 applied documents at %s, %v", after.Documents.AppliedAt, err)
	}
	done(t, os.Remove(s.ClockFile("az1")))
	done(t, replace(file, text))
	eventually(t, "az1 applies the old ones now", func() error {
		f, err := applied("az1")
		if err == nil && (time.Until(f.Documents.AppliedAt) > time.Hour || f.Documents.Hash != before.Documents.Hash) {
			err = fmt.Errorf("applied %s at %s", f.Documents.Hash, f.Documents.AppliedAt)
		}
		return err
	})
}

func testBinary(t *testing.T, s *started) {
	const part = "az3/user-service v1"
	path := filepath.Join(t.TempDir(), "old")
	done(t, os.WriteFile(path, []byte("#!/bin/sh\nexit 3\n"), 0o755))
	done(t, s.SetBinary(part, path))
	done(t, s.Signal(part, syscall.SIGKILL))
	if err := s.Start(t.Context(), part); err == nil || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("start of a program that ends: %v", err)
	}
	eventually(t, "the lab goes on", func() error {
		if !strings.Contains(s.log.String(), "ended (exit status 3); the others go on") {
			return errors.New("it does not say so")
		}
		return nil
	})
	done(t, s.SetBinary(part, ""))
	done(t, s.Start(t.Context(), part))
	for _, bad := range []string{"/no/such/program", t.TempDir(), s.Documents("az1")} {
		if err := s.SetBinary(part, bad); err == nil {
			t.Errorf("%s is taken for a program", bad)
		}
	}
	eventually(t, "all is as it was", func() error { return s.serving(t.Context()) })
}

// testAdministration: off loopback nobody gets in without a token.
func testAdministration(t *testing.T, s *started) {
	client, err := s.Client("az2")
	done(t, err)
	defer client.Close()
	if f, err := client.Federation(t.Context()); err != nil || f.Edge != "az2-edge" || len(f.Edges) != 3 {
		t.Errorf("federation: %+v, %v", f, err)
	}
	stranger, err := api.NewClient(api.ClientOptions{URL: s.Edge("az2").Admin, TLS: &tls.Config{RootCAs: s.CA()}})
	done(t, err)
	defer stranger.Close()
	if _, err := stranger.Federation(t.Context()); err == nil {
		t.Error("the API answers without a token")
	}
	if response, err := http.Get(s.Edge("az2").Admin); err == nil {
		_ = response.Body.Close()
		t.Error("the API's certificate is trusted by all")
	}
}

func testUnknown(t *testing.T, s *started) {
	_, pid := s.Pid("az9/edge")
	_, client := s.Client("az9")
	for name, err := range map[string]error{
		"pid": pid, "client": client, "signal": s.Signal("az9/edge", syscall.SIGKILL), "start": s.Start(t.Context(), "az9/edge"),
		"binary": s.SetBinary("az9/edge", ""), "certificate": s.IssueCertificate("w1", time.Now(), time.Now()),
		"behaviour": s.Behave(t.Context(), "az9/user-service v1", 0, 0),
	} {
		if err == nil || !strings.Contains(err.Error(), "no ") {
			t.Errorf("%s of what is not there: %v", name, err)
		}
	}
	if got := s.Edge("az9"); got != (EdgeAddress{}) {
		t.Errorf("edge of no zone: %+v", got)
	}
}

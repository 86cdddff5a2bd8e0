package main

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func readH2load(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestParseH2load(t *testing.T) {
	for name, want := range map[string]loadResult{
		"h2load-tls.txt": {Requests: 41406, Elapsed: 996910 * time.Microsecond, PerSecond: 41406, ReadBytes: 42399744},
		"h2load-h2c.txt": {Requests: 28602, Elapsed: 1010 * time.Millisecond, PerSecond: 28602, ReadBytes: 29288448},
	} {
		speaks := protocol{HTTP2: true, TLS: name == "h2load-tls.txt"}
		r, err := parseH2load(readH2load(t, name), speaks)
		if err != nil {
			t.Fatal(err)
		}
		if r != want {
			t.Errorf("%s: parsed %+v, want %+v", name, r, want)
		}
		if faults := r.faults(); faults != "" {
			t.Errorf("%s: a clean run has faults: %s", name, faults)
		}
		// What the row claims is what was spoken.
		speaks.TLS = !speaks.TLS
		if _, err := parseH2load(readH2load(t, name), speaks); !errors.Is(err, errH2loadOutput) {
			t.Errorf("%s passes for %s: %v", name, speaks, err)
		}
	}
}

func TestParseH2loadErrors(t *testing.T) {
	r, err := parseH2load(readH2load(t, "h2load-errors.txt"), protocol{HTTP2: true})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := r.faults(), "7 bad statuses, 2 read errors, 3 timeouts"; got != want {
		t.Errorf("faults %q, want %q", got, want)
	}
}

func TestParseH2loadRefuses(t *testing.T) {
	clean := readH2load(t, "h2load-tls.txt")
	for name, text := range map[string]string{
		"empty":           "",
		"cut off":         clean[:strings.Index(clean, "requests:")],
		"another cipher":  strings.Replace(clean, "AES_128", "AES_256", 1),
		"older TLS":       strings.Replace(clean, "TLSv1.3", "TLSv1.2", 1),
		"HTTP/1":          strings.Replace(clean, "protocol: h2\n", "protocol: http/1.1\n", 1),
		"no rate":         strings.Replace(clean, "41406.00 req/s", "-nan req/s", 1),
		"strange time":    strings.Replace(clean, "996.91ms", "soon", 1),
		"huge number":     strings.Replace(clean, "41406 done", "99999999999999999999 done", 1),
		"no status codes": strings.Replace(clean, "status codes", "codes", 1),
		"no traffic":      strings.Replace(clean, "traffic", "bytes", 1),
	} {
		if _, err := parseH2load(text, protocol{TLS: true, HTTP2: true}); !errors.Is(err, errH2loadOutput) {
			t.Errorf("%s: %v, want %v", name, err, errH2loadOutput)
		}
	}
}

func TestH2loadSharesTheLoad(t *testing.T) {
	l := load{To: netip.MustParseAddrPort("127.0.0.1:20001"), Protocol: protocol{TLS: true, HTTP2: true},
		Connections: 32, Streams: 10, Duration: 4 * time.Second}
	plain, tagged := h2loadArgs(l, 16, false), h2loadArgs(l, 16, true)
	for _, want := range []string{"--clients=16", "--max-concurrent-streams=10", "--duration=4", "--connect-to=127.0.0.1:20001",
		"https://bench.test/api/v1/users/1001"} {
		if !slices.Contains(plain, want) || !slices.Contains(tagged, want) {
			t.Errorf("h2load is not told %q: %q", want, plain)
		}
	}
	if tag := "--header=x-release-tag: v2-beta"; slices.Contains(plain, tag) || !slices.Contains(tagged, tag) {
		t.Errorf("the tag: %q and %q", plain, tagged)
	}
	sum := loadResult{Requests: 10, Elapsed: 4 * time.Second, PerSecond: 3, ReadBytes: 2e4, BadStatus: 1, ReadErrors: 2, Timeouts: 3}.
		plus(loadResult{Requests: 5, Elapsed: 5 * time.Second, PerSecond: 1, ReadBytes: 1e4, BadStatus: 10, ReadErrors: 20, Timeouts: 30})
	if want := (loadResult{Requests: 15, Elapsed: 5 * time.Second, PerSecond: 4, ReadBytes: 3e4, BadStatus: 11, ReadErrors: 22, Timeouts: 33}); sum != want {
		t.Errorf("halves sum up to %+v, want %+v", sum, want)
	}
}

package gossip

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/grayfed/grayfed/federation"
)

func TestOptions(t *testing.T) {
	good := func() Options {
		return Options{Self: federation.Edge{ID: "e0", Incarnation: 1}, Bind: "127.0.0.1:7946", Peers: []string{"edge-2.example:7946"}}
	}
	for name, c := range map[string]struct {
		change func(*Options)
		want   string // part of the error; empty: none
	}{
		"loopback without key":    {func(*Options) {}, ""},
		"loopback v6 without key": {func(o *Options) { o.Bind = "[::1]:7946" }, ""},
		"off loopback with key":   {func(o *Options) { o.Bind, o.Keys = "10.0.0.1:7946", [][]byte{testKey} }, ""},
		"all addresses, key":      {func(o *Options) { o.Bind, o.Advertise, o.Keys = "0.0.0.0:7946", "10.0.0.1:7946", [][]byte{testKey} }, ""},
		"off loopback":            {func(o *Options) { o.Bind = "10.0.0.1:7946" }, "key is required"},
		"all addresses":           {func(o *Options) { o.Bind, o.Advertise = "0.0.0.0:7946", "127.0.0.1:7946" }, "key is required"},
		"advertised off loopback": {func(o *Options) { o.Advertise = "10.0.0.1:7946" }, "key is required"},
		"advertise unspecified":   {func(o *Options) { o.Bind, o.Keys = "0.0.0.0:7946", [][]byte{testKey} }, "advertise"},
		"bind to a name":          {func(o *Options) { o.Bind = "localhost:7946" }, "not an IP address"},
		"short key":               {func(o *Options) { o.Keys = [][]byte{testKey, testKey[:15]} }, "key 2: found 15 bytes"},
		"no id":                   {func(o *Options) { o.Self.ID = "" }, "edge id"},
		"no incarnation":          {func(o *Options) { o.Self.Incarnation = 0 }, "incarnation"},
		"too much to say":         {func(o *Options) { o.Self.Admin = strings.Repeat("a", 500) }, "allowed 512"},
		"peer without port":       {func(o *Options) { o.Peers = []string{"10.0.0.2"} }, "peer"},
		"timeout over interval":   {func(o *Options) { o.Timing.ProbeTimeout = time.Second }, "probe timeout"},
		"tiny queue":              {func(o *Options) { o.QueueLimit = 1 }, "queue limit"},
		"bad federation":          {func(o *Options) { o.Federation = "a b" }, "federation"},
	} {
		o := good()
		c.change(&o)
		_, err := New(o)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: error %v, want %q in it", name, err, c.want)
		case strings.Contains(c.want, "required") && !errors.Is(err, ErrKeyRequired):
			t.Errorf("%s: error does not wrap ErrKeyRequired", name)
		}
	}
}

func TestParseKeys(t *testing.T) {
	other := []byte("abcdefghijklmnop")
	text := "# keys\n\n" + base64.StdEncoding.EncodeToString(testKey) + "\n  " + hex.EncodeToString(other) + "  \n" +
		base64.RawURLEncoding.EncodeToString(testKey[:24])
	keys, err := ParseKeys([]byte(text))
	if err != nil || len(keys) != 3 || string(keys[0]) != string(testKey) || string(keys[1]) != string(other) || len(keys[2]) != 24 {
		t.Errorf("keys %q, %v", keys, err)
	}
	for name, text := range map[string]string{"nothing": "# only this\n", "15 bytes": hex.EncodeToString(other[:15]), "not encoded": "secret!"} {
		if keys, err := ParseKeys([]byte(text)); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: keys %q, %v", name, keys, err)
		}
	}
	path := filepath.Join(t.TempDir(), "gossip.key")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if keys, err := ReadKeys(path); err != nil || len(keys) != 3 {
		t.Errorf("keys %q, %v", keys, err)
	}
	if _, err := ReadKeys(path + "x"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

func FuzzParseKeys(f *testing.F) {
	f.Add([]byte(base64.StdEncoding.EncodeToString(testKey)))
	f.Fuzz(func(t *testing.T, text []byte) {
		keys, err := ParseKeys(text)
		if err == nil && len(keys) == 0 {
			t.Error("no key and no error")
		}
		for _, key := range keys {
			if !validKeySize(key) {
				t.Errorf("key of %d bytes", len(key))
			}
		}
	})
}

// Two edges may run in one process, each with its own registry.
func TestMetricsAreNotGlobal(t *testing.T) {
	for range 2 {
		reg := prometheus.NewRegistry()
		if _, err := New(Options{Self: federation.Edge{ID: "e0", Incarnation: 1}, Bind: "127.0.0.1:0", Registerer: reg}); err != nil {
			t.Fatal(err)
		}
		families, err := reg.Gather()
		if err != nil || len(families) < 8 {
			t.Errorf("%d families, %v", len(families), err)
		}
	}
}

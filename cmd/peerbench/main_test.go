package main

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// TestMain lets the test binary be an origin, as the program is for itself, and
// a stand-in for grayfed.
func TestMain(m *testing.M) {
	commands := map[string]func([]string) error{
		originCommand:   func(args []string) error { return originMain(args, os.Stdout) },
		stockCommand:    func(args []string) error { return stockMain(args, os.Stdout) },
		instanceCommand: func(args []string) error { return instanceMain(args, os.Stdout) },
		"dev-etcd":      fakeEtcd,
		"edge":          fakeEdge,
	}
	if len(os.Args) > 1 && commands[os.Args[1]] != nil {
		if err := commands[os.Args[1]](os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// lockThread keeps the thread that starts children, as main does.
func lockThread(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	t.Cleanup(runtime.UnlockOSThread)
}

func TestSettings(t *testing.T) {
	s, err := parseSettings([]string{"-only", "nginx, caddy", "-rounds", "3", "-duration", "2s"}, &bytes.Buffer{})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(s.Connections, []int{64, 512}) || s.Rounds != 3 || s.Duration != 2*time.Second {
		t.Errorf("unexpected settings: %+v", s)
	}
	if !s.wants(peerNginx) || !s.wants(peerCaddy) || s.wants(peerHAProxy) || s.wants(peerDirect) {
		t.Errorf("-only is not kept: %v", s.Only)
	}
	if s, err = parseSettings([]string{"-mode", "routes"}, &bytes.Buffer{}); err != nil || !slices.Equal(s.Connections, []int{64}) {
		t.Errorf("connections of mode routes: %v, %v", s.Connections, err)
	}
	for mode, want := range map[string]int{modeTLS: 64, modeH2: 32, modeH2C: 32} {
		if s, err = parseSettings([]string{"-mode", mode}, &bytes.Buffer{}); err != nil || !slices.Equal(s.Connections, []int{want}) || s.Streams != 10 {
			t.Errorf("connections of mode %s: %v by %d, %v", mode, s.Connections, s.Streams, err)
		}
	}
	for args, want := range map[string]time.Duration{"-mode kill": 10 * time.Second, "-mode kill -duration 4s": 4 * time.Second, "-mode load": 4 * time.Second} {
		if s, err = parseSettings(strings.Fields(args), &bytes.Buffer{}); err != nil || s.Duration != want {
			t.Errorf("%s lasts %v, %v; want %v", args, s.Duration, err, want)
		}
	}
}

func TestSettingsRefused(t *testing.T) {
	for _, args := range []string{
		"-mode fast", "-rounds 0", "-rounds 101", "-duration 1500ms", "-duration 0s", "-duration 11m",
		"-warmup 2m", "-warmup -1s", "-connections 1", "-connections 64,,512", "-connections 5000",
		"-connections many", "-only nginx,apache", "-workers 0", "-bucket 0", "-idle 40000", "-o xml", "extra",
		"-mode h2 -streams 0", "-mode h2 -streams 101", "-registrations 0", "-registration-rate 0", "-rate 0", "-instances 9",
	} {
		if _, err := parseSettings(strings.Fields(args), &bytes.Buffer{}); err == nil {
			t.Errorf("%q was accepted", args)
		}
	}
}

func TestNeededPrograms(t *testing.T) {
	for _, c := range []struct {
		mode string
		only []string
		want []string
	}{
		{modeLoad, nil, []string{"nginx", "haproxy", "caddy", "grayfed", "wrk"}},
		{modeTLS, []string{"nginx", "go"}, []string{"nginx", "wrk"}},
		{modeH2, nil, []string{"nginx", "haproxy", "caddy", "grayfed", "h2load"}},
		{modeH2C, []string{"go"}, []string{"h2load"}},
		{modeLoad, []string{"direct", "nginx"}, []string{"nginx", "wrk"}},
		{modeIdle, nil, []string{"nginx", "grayfed"}},
		{modeIdle, []string{"nginx"}, []string{"nginx"}},
		{modeRoutes, nil, []string{"grayfed", "wrk"}},
		{modeRegister, nil, []string{"grayfed"}},
		{modeKill, nil, []string{"grayfed"}},
		{modeInstances, nil, []string{"grayfed"}},
	} {
		if got := neededPrograms(settings{Mode: c.mode, Only: c.only}); !slices.Equal(got, c.want) {
			t.Errorf("mode %s with only %v needs %v, want %v", c.mode, c.only, got, c.want)
		}
	}
}

func TestMissingProgramIsNamed(t *testing.T) {
	s := settings{Mode: modeRoutes, Grayfed: "no-such-folder/grayfed"}
	if _, err := newBench(s, &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "no-such-folder/grayfed") {
		t.Errorf("a missing binary is reported as %v", err)
	}
	if _, err := findProgram("no-such-program"); err == nil || !strings.Contains(err.Error(), "install.sh") {
		t.Errorf("a missing program is reported as %v", err)
	}
}

func TestVersions(t *testing.T) {
	for text, want := range map[string]string{
		"nginx version: nginx/1.22.1\n":                                        "1.22.1",
		"HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/\n": "2.6.12-1+deb12u4",
		"2.6.2\n":            "2.6.2",
		"v2.8.4 h1:q3pe0=\n": "2.8.4",
		"wrk debian/4.1.0-3 [epoll] Copyright (C) 2012 Will Glozer\n": "4.1.0-3",
		"":        "unknown",
		"no idea": "unknown",
	} {
		if got := firstVersion(text); got != want {
			t.Errorf("version in %q is %q, want %q", text, got, want)
		}
	}
	if got := processorModel([]byte("processor\t: 0\nmodel name\t: Some CPU: 3 GHz\n")); got != "Some CPU: 3 GHz" {
		t.Errorf("processor model %q", got)
	}
}

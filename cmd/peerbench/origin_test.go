package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const taggedGet = "GET /api/v1/users/1 HTTP/1.1\r\nHost: x\r\nX-Release-Tag: v2-beta\r\n\r\n"
const plainGet = "GET /api/v1/users/1 HTTP/1.1\r\nHost: x\r\n\r\n"

func TestRespond(t *testing.T) {
	r := newResponder(stableRelease)
	out, rest, err := r.respond(nil, []byte(plainGet+plainGet+"GET /api"))
	if err != nil {
		t.Fatal(err)
	}
	if string(rest) != "GET /api" {
		t.Errorf("left over %q", rest)
	}
	if want := string(r.answer) + string(r.answer); string(out) != want {
		t.Errorf("two pipelined requests got %d bytes, want %d", len(out), len(want))
	}
	if _, _, err := r.respond(nil, []byte("POST /api/ HTTP/1.1\r\nContent-Length: 1\r\n\r\nx")); !errors.Is(err, errOriginRequest) {
		t.Errorf("a request with a body: %v", err)
	}
	if r.requests != 2 || r.wrong != 0 {
		t.Errorf("counted %d requests, %d wrong", r.requests, r.wrong)
	}
}

func TestRespondCountsWrongLane(t *testing.T) {
	for _, c := range []struct {
		release, request string
		wrong            int64
	}{
		{stableRelease, plainGet, 0},
		{stableRelease, taggedGet, 1},
		{canaryRelease, taggedGet, 0},
		{canaryRelease, plainGet, 1},
		{canaryRelease, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 0},
	} {
		r := newResponder(c.release)
		if _, _, err := r.respond(nil, []byte(c.request)); err != nil || r.wrong != c.wrong {
			t.Errorf("%s got %q: %d wrong, %v; want %d", c.release, c.request, r.wrong, err, c.wrong)
		}
	}
}

func TestOriginProcess(t *testing.T) {
	lockThread(t)
	o, err := startOrigin(t.TempDir(), canaryRelease)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := o.end(); err != nil {
			t.Error(err)
		}
		if err := syscall.Kill(o.pid, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("the origin still exists: %v", err)
		}
	}()
	conn, err := net.DialTimeout("tcp4", o.addr.String(), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		t.Fatalf("connection is a %T", conn)
	}
	if err := errors.Join(tcp.SetReadBuffer(128<<10), conn.SetDeadline(time.Now().Add(5*time.Second))); err != nil {
		t.Fatal(err)
	}
	// One head in two segments, then many requests in one, and nothing is read
	// before all are written: the answers fill the socket and have to wait.
	const many = 8000
	for _, part := range []string{taggedGet[:20], taggedGet[20:] + plainGet + strings.Repeat(taggedGet, many)} {
		if _, err := io.WriteString(conn, part); err != nil {
			t.Fatal(err)
		}
	}
	reader := bufio.NewReader(conn)
	for i := range 2 + many {
		response, err := http.ReadResponse(reader, nil)
		if err != nil {
			t.Fatalf("response %d: %v", i, err)
		}
		body, err := io.ReadAll(response.Body)
		if err = errors.Join(err, response.Body.Close()); err != nil || len(body) != bodySize || !json.Valid(body) || response.Header.Get("X-Origin") != canaryRelease {
			t.Fatalf("response %d: %v, %d bytes, %v", i, err, len(body), response.Header)
		}
	}
	stats, err := readOriginStats(context.Background(), o.addr)
	if err != nil {
		t.Fatal(err)
	}
	// The connection and the requests, and those of the count itself.
	if want := (originStats{Requests: many + 3, Accepted: 2, WrongLane: 1}); stats != want {
		t.Errorf("%+v, want %+v", stats, want)
	}
	if err := o.alive(); err != nil {
		t.Error(err)
	}
}

// An origin asked directly is a proxy that forwards nothing: the check before
// the load must say so.
func TestVerifyRefusesWhoDoesNotDoTheJob(t *testing.T) {
	lockThread(t)
	o, err := startOrigin(t.TempDir(), stableRelease)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := o.end(); err != nil {
			t.Error(err)
		}
	}()
	if err := verify(context.Background(), entrance{listen: o.addr}, pathPrefix+"42"); err == nil || !strings.Contains(err.Error(), "header x-") {
		t.Errorf("an origin passes for a proxy: %v", err)
	}
}

func TestCheckEcho(t *testing.T) {
	good := func() echo {
		return echo{Release: canaryRelease, Headers: map[string][]string{
			"host": {loadHost}, "x-forwarded-for": {"127.0.0.1"}, "x-forwarded-proto": {"http"},
			"x-forwarded-host": {loadHost}, "x-real-ip": {"127.0.0.1"},
			"x-request-id": {"0123456789abcdef"}, tagHeader: {canaryRelease},
		}}
	}
	if err := checkEcho(good(), "http", canaryRelease, canaryRelease); err != nil {
		t.Fatal(err)
	}
	if err := checkEcho(good(), "https", canaryRelease, canaryRelease); err == nil || !strings.Contains(err.Error(), "x-forwarded-proto") {
		t.Errorf("TLS that the origin is not told of: %v", err)
	}
	if err := checkEcho(good(), "http", canaryRelease, stableRelease); err == nil {
		t.Error("the wrong release passes")
	}
	for name := range good().Headers {
		for what, values := range map[string][]string{
			"missing": nil, "wrong": {"203.0.113.9"}, "doubled": {good().Headers[name][0], "203.0.113.9"},
		} {
			bad := good()
			bad.Headers[name] = values
			if err := checkEcho(bad, "http", canaryRelease, canaryRelease); err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("header %s %s: %v", name, what, err)
			}
		}
	}
}

func TestEndKillsTheWholeGroup(t *testing.T) {
	lockThread(t)
	dir := t.TempDir()
	p, err := start(command{Name: "shell", Path: "/bin/sh", Dir: dir, FirstLine: true,
		Args: []string{"-c", `sleep 300 </dev/null >/dev/null 2>&1 & echo $!; wait`}})
	if err != nil {
		t.Fatal(err)
	}
	grandchild, err := strconv.Atoi(p.line)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.end(); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(5 * time.Second)
	for running(grandchild) {
		if time.Now().After(deadline) {
			t.Fatalf("process %d outlived the child that started it", grandchild)
		}
		time.Sleep(time.Millisecond)
	}
}

// running says whether a process exists and is not a zombie, which an orphan
// may stay for a while where nobody reaps.
func running(pid int) bool {
	all, err := readStats("/proc")
	if err != nil {
		return false
	}
	if _, ok := all[pid]; !ok {
		return false
	}
	u, err := treeUsage("/proc", pid)
	return err == nil && u.Memory.Resident > 0
}

func TestStartReportsDeath(t *testing.T) {
	lockThread(t)
	dir := t.TempDir()
	_, err := start(command{Name: "short", Path: "/bin/sh", Dir: dir, FirstLine: true,
		Args: []string{"-c", "echo why it failed >&2"}})
	if err == nil || !strings.Contains(err.Error(), "why it failed") {
		t.Errorf("a child that ends without a line: %v", err)
	}
	p, err := start(command{Name: "fails", Path: "/bin/sh", Dir: dir, Args: []string{"-c", "echo bad config; exit 3"}})
	if err != nil {
		t.Fatal(err)
	}
	err = waitFor(context.Background(), 5*time.Second, p, func() error { return errors.New("not yet") })
	if err == nil || !strings.Contains(err.Error(), "bad config") || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("a child that dies while awaited: %v", err)
	}
	if _, err := start(command{Name: "absent", Path: filepath.Join(dir, "absent"), Dir: dir}); err == nil {
		t.Error("a program that does not exist was started")
	}
}

func FuzzRespond(f *testing.F) {
	f.Add([]byte(plainGet+taggedGet), 10)
	f.Add([]byte("GET /?peerbench=echo HTTP/1.1\r\na:b\r\n\r\n"), 3)
	f.Add([]byte("GET ?peerbench=stats\r\n\r\nGET "), 1)
	f.Add([]byte("\r\n\r\n"), 2)
	f.Fuzz(func(t *testing.T, in []byte, split int) {
		whole := newResponder(stableRelease)
		_, rest, err := whole.respond(nil, in)
		// What arrives in two pieces is answered like what arrives in one.
		split = min(max(split, 0), len(in))
		parts := newResponder(stableRelease)
		_, left, partsErr := parts.respond(nil, in[:split])
		if partsErr == nil {
			_, left, partsErr = parts.respond(nil, append(left[:len(left):len(left)], in[split:]...))
		}
		if fmt.Sprint(err) != fmt.Sprint(partsErr) || string(rest) != string(left) ||
			whole.requests != parts.requests || whole.wrong != parts.wrong {
			t.Fatalf("split at %d: %v and %v, %q and %q", split, err, partsErr, rest, left)
		}
	})
}

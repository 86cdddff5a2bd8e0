package observe_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/grayfed/grayfed/edge/observe"
)

// output keeps what is written. While held, Write waits; with failing set, it
// takes that many bytes and fails.
type output struct {
	mu      sync.Mutex
	written bytes.Buffer
	failing int // bytes; -1: works
	entered chan struct{}
	held    chan struct{}
}

func newOutput() *output { return &output{failing: -1} }

func (o *output) Write(p []byte) (int, error) {
	if o.held != nil {
		o.entered <- struct{}{}
		<-o.held
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if n := o.failing; n >= 0 {
		n = min(n, len(p))
		o.written.Write(p[:n])
		o.failing = -1
		return n, io.ErrShortWrite
	}
	return o.written.Write(p)
}

func (o *output) lines() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.Split(strings.TrimSuffix(o.written.String(), "\n"), "\n")
}

// writeAll runs the log over what was logged and ends it.
func writeAll(t *testing.T, log *observe.AccessLog) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := log.Run(ctx); err != nil {
		t.Fatal(err)
	}
}

func newAccessLog(t testing.TB, o observe.AccessLogOptions) *observe.AccessLog {
	t.Helper()
	log, err := observe.NewAccessLog(o)
	if err != nil {
		t.Fatal(err)
	}
	return log
}

func full() observe.Record {
	return observe.Record{
		Time: time.Date(2026, 3, 1, 12, 0, 0, 1500, time.FixedZone("CET", 3600)),
		ID:   "r-1", Remote: netip.MustParseAddrPort("[2001:db8::7]:4711"), ClientIP: "192.0.2.1",
		Method: "POST", Scheme: "https", Host: "shop.example", Path: "/api/v1/users", Query: "token=secret", Proto: "HTTP/1.1",
		Route: "users", Service: "user-service", Release: "v2-beta", Subset: "v2-beta", Zone: "az2",
		Rung: "canary-elsewhere", Reason: "in-release", Upstream: "u-7", UpstreamAddr: "10.0.0.7:8080",
		Status: 502, RequestBytes: 12, ResponseBytes: 345, Duration: 2500 * time.Microsecond, UpstreamDuration: 1750 * time.Nanosecond,
		Retries: 1, Error: "receive: reset", Phase: "receive", Fault: "upstream", UserAgent: "curl/8", TraceID: "4bf92f35", GRPCStatus: "14",
		Through: "az2-edge", From: "az3-edge",
	}
}

func TestLineHasWhatTheRecordHas(t *testing.T) {
	out := newOutput()
	log := newAccessLog(t, observe.AccessLogOptions{Output: out})
	record := full()
	log.Log(&record)
	bare := observe.Record{Time: record.Time, Remote: record.Remote, Query: "token=secret"}
	log.Log(&bare)
	writeAll(t, log)

	want := []string{`{"time":"2026-03-01T11:00:00.0000015Z","level":"INFO","msg":"request",` +
		`"id":"r-1","client":"192.0.2.1","remote":"[2001:db8::7]:4711",` +
		`"method":"POST","scheme":"https","host":"shop.example","path":"/api/v1/users","proto":"HTTP/1.1","status":502,` +
		`"route":"users","service":"user-service","release":"v2-beta","subset":"v2-beta","zone":"az2",` +
		`"rung":"canary-elsewhere","reason":"in-release","upstream":"u-7","upstream_address":"10.0.0.7:8080","retries":1,` +
		`"duration_ms":2.5,"upstream_duration_ms":0.001,"request_bytes":12,"response_bytes":345,"user_agent":"curl/8",` +
		`"through_edge":"az2-edge","from_edge":"az3-edge","grpc_status":"14","trace_id":"4bf92f35","error":"receive: reset","phase":"receive","fault":"upstream"}`,
		`{"time":"2026-03-01T11:00:00.0000015Z","level":"INFO","msg":"request",` +
			`"id":"","client":"2001:db8::7","remote":"[2001:db8::7]:4711",` +
			`"method":"","scheme":"","host":"","path":"","proto":"","status":0,` +
			`"route":"","service":"","release":"","subset":"","zone":"",` +
			`"rung":"","reason":"","upstream":"","upstream_address":"","retries":0,` +
			`"duration_ms":0,"upstream_duration_ms":0,"request_bytes":0,"response_bytes":0,"user_agent":""}`,
	}
	if got := out.lines(); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestQueryIsLoggedOnlyWhenAskedFor(t *testing.T) {
	for _, query := range []bool{false, true} {
		out := newOutput()
		log := newAccessLog(t, observe.AccessLogOptions{Output: out, Query: query})
		record := full()
		log.Log(&record)
		writeAll(t, log)
		if got := strings.Contains(out.lines()[0], `"query":"token=secret"`); got != query {
			t.Errorf("Query %t: the line has the query: %t", query, got)
		}
		if got := strings.Contains(out.lines()[0], "secret"); got != query {
			t.Errorf("Query %t: the line has the secret: %t", query, got)
		}
	}
}

// Every string of the record is a view into a buffer that the next request
// overwrites.
func TestStringsAreCopied(t *testing.T) {
	out := newOutput()
	log := newAccessLog(t, observe.AccessLogOptions{Output: out, Query: true})
	buffer := make([]byte, 0, 4096)
	value := reflect.ValueOf(&observe.Record{}).Elem()
	record := value.Addr().Interface().(*observe.Record)
	var want []string
	for line := range 300 {
		buffer = buffer[:0]
		for i := range value.NumField() {
			if field := value.Field(i); field.Kind() == reflect.String {
				text := fmt.Sprintf("%s-%d", value.Type().Field(i).Name, line)
				want = append(want, text)
				begin := len(buffer)
				buffer = append(buffer, text...)
				field.SetString(unsafe.String(&buffer[begin], len(text)))
			}
		}
		log.Log(record)
		for i := range buffer {
			buffer[i] = '!'
		}
	}
	writeAll(t, log)
	all := strings.Join(out.lines(), "\n")
	for _, text := range want {
		if !strings.Contains(all, `:"`+text+`"`) {
			t.Fatalf("no line has %q", text)
		}
	}
	if strings.Contains(all, "!") {
		t.Error("a line has bytes of a later request")
	}
}

func TestFullQueueDropsAndCounts(t *testing.T) {
	out := newOutput()
	out.entered, out.held = make(chan struct{}), make(chan struct{})
	reg := prometheus.NewPedanticRegistry()
	log := newAccessLog(t, observe.AccessLogOptions{Output: out, Queue: 10, Registerer: reg})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- log.Run(ctx) }()
	for i := range 4 {
		log.Log(&observe.Record{ID: fmt.Sprint("first-", i)})
	}
	<-out.entered // the output blocks with some of the first four in hand
	for i := range 20 {
		log.Log(&observe.Record{ID: fmt.Sprint("second-", i)})
	}
	cancel()
	close(out.held)
	for waiting := true; waiting; {
		select {
		case <-out.entered:
		case err := <-ended:
			if err != nil {
				t.Fatal(err)
			}
			waiting = false
		}
	}
	if got := len(out.lines()); got != 10 {
		t.Errorf("%d lines were written, want the 10 of the queue", got)
	}
	wantLines(t, reg, 10, 14, 0)
	if last := out.lines()[9]; !strings.Contains(last, `"second-5"`) {
		t.Errorf("the last line is %s, want the sixth of the second lot", last)
	}
}

func TestLongStringsFillTheQueue(t *testing.T) {
	out := newOutput()
	reg := prometheus.NewPedanticRegistry()
	log := newAccessLog(t, observe.AccessLogOptions{Output: out, Queue: 10, Registerer: reg})
	long := strings.Repeat("x", 4<<10)
	for range 5 {
		log.Log(&observe.Record{Path: long})
	}
	log.Log(&observe.Record{Path: "/short"})
	writeAll(t, log)
	wantLines(t, reg, 3, 3, 0) // 2 of 4 KiB leave less than 4 of 10 KiB
	log.Log(&observe.Record{Path: long})
	writeAll(t, log)
	wantLines(t, reg, 4, 3, 0)
}

func TestFailingOutputIsTriedAgain(t *testing.T) {
	for _, accepted := range []int{0, 17} {
		out := newOutput()
		out.failing = accepted
		reg := prometheus.NewPedanticRegistry()
		log := newAccessLog(t, observe.AccessLogOptions{Output: out, Registerer: reg})
		log.Log(&observe.Record{ID: "lost"})
		writeAll(t, log)
		log.Log(&observe.Record{ID: "kept"})
		writeAll(t, log)
		lines := out.lines()
		if last := lines[len(lines)-1]; !json.Valid([]byte(last)) || !strings.Contains(last, `"id":"kept"`) {
			t.Errorf("after %d accepted bytes the last line is %s", accepted, last)
		}
		wantLines(t, reg, 1, 0, 1)
	}
}

func wantLines(t *testing.T, reg *prometheus.Registry, written, dropped, failed int) {
	t.Helper()
	want := []string{
		fmt.Sprintf(`grayfed_access_log_lost_lines_total{reason="queue-full"} %d`, dropped),
		fmt.Sprintf(`grayfed_access_log_lost_lines_total{reason="write-failed"} %d`, failed),
		fmt.Sprintf(`grayfed_access_log_written_lines_total{} %d`, written),
	}
	if got := gather(t, reg); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// Lines come while the log runs, in the order of each caller, none twice.
func TestManyCallersAtOnce(t *testing.T) {
	const callers, each = 8, 2000
	out := newOutput()
	log := newAccessLog(t, observe.AccessLogOptions{Output: out, Queue: callers * each})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- log.Run(ctx) }()
	var callersDone sync.WaitGroup
	for caller := range callers {
		callersDone.Go(func() {
			for i := range each {
				log.Log(&observe.Record{ID: fmt.Sprint(i), Route: fmt.Sprint(caller)})
			}
		})
	}
	callersDone.Wait()
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	next := make(map[string]int)
	for _, line := range out.lines() {
		var got struct{ ID, Route string }
		if err := json.Unmarshal([]byte(line), &got); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if want := fmt.Sprint(next[got.Route]); got.ID != want {
			t.Fatalf("caller %s: line %s, want %s", got.Route, got.ID, want)
		}
		next[got.Route]++
	}
	for caller := range callers {
		if got := next[fmt.Sprint(caller)]; got != each {
			t.Errorf("caller %d has %d lines, want %d", caller, got, each)
		}
	}
}

func TestLinesAreWrittenWhileItRuns(t *testing.T) {
	read, write := io.Pipe()
	log := newAccessLog(t, observe.AccessLogOptions{Output: write})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- log.Run(ctx) }()
	decoder := json.NewDecoder(read)
	for i := range 3 {
		log.Log(&observe.Record{ID: fmt.Sprint(i)})
		var got struct{ ID string }
		if err := decoder.Decode(&got); err != nil || got.ID != fmt.Sprint(i) {
			t.Fatalf("line %d: id %q, error %v", i, got.ID, err)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}

func TestAccessLogRefusesOptions(t *testing.T) {
	for _, o := range []observe.AccessLogOptions{
		{}, {Output: io.Discard, Queue: -1}, {Output: io.Discard, Queue: 1_000_001},
	} {
		if _, err := observe.NewAccessLog(o); err == nil {
			t.Errorf("%+v: no error", o)
		}
	}
	reg := prometheus.NewRegistry()
	newAccessLog(t, observe.AccessLogOptions{Output: io.Discard, Registerer: reg})
	_, err := observe.NewAccessLog(observe.AccessLogOptions{Output: io.Discard, Registerer: reg})
	if already := (prometheus.AlreadyRegisteredError{}); !errors.As(err, &already) {
		t.Errorf("second log on one registry: %v", err)
	}
}

// FuzzLine: whatever a client sends, a request is one line of valid JSON with
// its values in it.
func FuzzLine(f *testing.F) {
	f.Add("/a\n{\"id\":\"forged\"}", "evil.example", "\x00\x1b[31m", 200)
	f.Add("\xff\xfe\xc3", "\u2028\u2029", `"\`+"\r\n", -5)
	f.Fuzz(func(t *testing.T, path, host, agent string, status int) {
		out := newOutput()
		log := newAccessLog(t, observe.AccessLogOptions{Output: out, Queue: 1_000_000, Query: true})
		record := full()
		record.Path, record.Query, record.Host, record.UserAgent, record.Status = path, path, host, agent, status
		record.Method, record.ID, record.Error = agent, host, path
		log.Log(&record)
		log.Log(&observe.Record{ID: "next"})
		writeAll(t, log)
		lines := out.lines()
		if len(lines) != 2 || !strings.Contains(lines[1], `"id":"next"`) {
			t.Fatalf("two requests made %d lines: %q", len(lines), lines)
		}
		var got struct {
			Path, Query, Host, Method, ID, Error string
			Agent                                string `json:"user_agent"`
			Status                               int
		}
		if err := json.Unmarshal([]byte(lines[0]), &got); err != nil {
			t.Fatalf("%v: %s", err, lines[0])
		}
		path, host, agent = valid(path), valid(host), valid(agent)
		if got.Path != path || got.Query != path || got.Error != path || got.Host != host || got.ID != host ||
			got.Agent != agent || got.Method != agent || got.Status != status {
			t.Errorf("got %+v, want path %q, host %q, agent %q, status %d", got, path, host, agent, status)
		}
		if i := strings.IndexFunc(lines[0], func(r rune) bool { return r < ' ' }); i >= 0 {
			t.Errorf("control character at %d of %q", i, lines[0])
		}
	})
}

// valid replaces each invalid byte, as JSON decoders do.
func valid(text string) string { return string([]rune(text)) }

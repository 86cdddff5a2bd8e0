package observe

import (
	"io"
	"net/netip"
	"testing"
	"time"
)

func benchRecord() Record {
	return Record{
		Time: time.Now(), ID: "0d4c6c1e9a5f4b27a1c0e2d3f4a5b6c7",
		Remote: netip.MustParseAddrPort("10.1.2.3:45678"), ClientIP: "10.1.2.3",
		Method: "GET", Scheme: "http", Host: "gw.example.com", Path: "/api/v1/users/12345", Proto: "HTTP/1.1",
		Route: "api-v1-users", Service: "user-service", Release: "v2-beta", Subset: "v2-beta", Zone: "az1",
		Rung: "canary-here", Reason: "in-release", Upstream: "user-service-az1-v2", UpstreamAddr: "10.0.0.7:8080",
		Status: 200, ResponseBytes: 1024, Duration: 1234 * time.Microsecond, UpstreamDuration: 987 * time.Microsecond,
		UserAgent: "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
	}
}

func TestLoggingAllocatesNothing(t *testing.T) {
	log, err := NewAccessLog(AccessLogOptions{Output: io.Discard, Queue: 1000})
	if err != nil {
		t.Fatal(err)
	}
	record := benchRecord()
	lot := func() {
		for range 1000 {
			log.Log(&record)
		}
		log.filling.reset() // as the writer does after it
	}
	lot() // gets the memory
	lot()
	if got := testing.AllocsPerRun(20, lot); got != 0 {
		t.Errorf("%v allocations for 1000 lines", got)
	}
}

// BenchmarkLog is what a request pays; the writer takes its share aside.
func BenchmarkLog(b *testing.B) {
	log, err := NewAccessLog(AccessLogOptions{Output: io.Discard})
	if err != nil {
		b.Fatal(err)
	}
	record := benchRecord()
	b.ReportAllocs()
	for b.Loop() {
		log.Log(&record)
		if len(log.filling.records) == wakeAt {
			log.filling.reset() // the writer's part costs nothing here
		}
	}
}

// BenchmarkEncode is what the writer pays for a line.
func BenchmarkEncode(b *testing.B) {
	var out []byte
	var e encoder
	record := benchRecord()
	b.ReportAllocs()
	for b.Loop() {
		out = e.encode(out[:0], &record)
	}
}

// BenchmarkLine is all that a line costs, but for the output.
func BenchmarkLine(b *testing.B) {
	log, err := NewAccessLog(AccessLogOptions{Output: io.Discard})
	if err != nil {
		b.Fatal(err)
	}
	record := benchRecord()
	b.ReportAllocs()
	for b.Loop() {
		log.Log(&record)
		if len(log.filling.records) == wakeAt {
			log.writeBatch()
		}
	}
}

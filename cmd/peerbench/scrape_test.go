package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestHeapOfMetrics(t *testing.T) {
	const text = `# TYPE go_gc_duration_seconds summary
go_gc_duration_seconds{quantile="0"} 2.9e-05
go_gc_duration_seconds_sum 0.0019
go_gc_duration_seconds_count 23
go_memstats_heap_alloc_bytes 1.25e+08
go_memstats_heap_alloc_bytes_other 1
`
	s, err := parseHeap(strings.NewReader(text))
	if err != nil || s != (heapSample{Live: 1.25e8, Cycles: 23}) {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := parseHeap(strings.NewReader("go_gc_duration_seconds_count 23\n")); !errors.Is(err, errNoMetric) {
		t.Errorf("without the heap: %v", err)
	}
	if _, err := parseHeap(strings.NewReader("go_gc_duration_seconds_count many\n")); err == nil {
		t.Error("a value that is no number was read")
	}
}

// The heap is sawtooth-like: of the scrapes behind the second collection the
// lowest counts, and neither the garbage before it nor what follows the third.
func TestLiveHeapIsReadBehindCollections(t *testing.T) {
	samples := []heapSample{{900, 3}, {40, 4}, {300, 4}, {120, 5}, {100, 5}, {500, 5}, {110, 6}, {1, 6}}
	n := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(w, "go_memstats_heap_alloc_bytes %v\ngo_gc_duration_seconds_count %v\n", samples[n].Live, samples[n].Cycles)
		n++
	}))
	defer server.Close()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	got, err := liveHeap(context.Background(), client, server.URL)
	if err != nil || got != 100 || n != 7 {
		t.Errorf("live heap %v after %d scrapes, %v; want 100 after 7", got, n, err)
	}
	server.Close()
	if _, err := liveHeap(context.Background(), client, server.URL); err == nil {
		t.Error("a server that is gone has a heap")
	}
}

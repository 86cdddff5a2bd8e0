package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// heapLimit is how long two garbage collections are waited for: the runtime
// makes one every two minutes at the latest.
const heapLimit = 5 * time.Minute

var errNoMetric = errors.New("no such metric")

// heapSample is what /metrics says of a Go program's heap.
type heapSample struct {
	Live   float64 // bytes of objects, dead ones that are not collected yet included
	Cycles float64 // collections so far
}

func parseHeap(text io.Reader) (heapSample, error) {
	var s heapSample
	wanted := map[string]*float64{"go_memstats_heap_alloc_bytes": &s.Live, "go_gc_duration_seconds_count": &s.Cycles}
	lines := bufio.NewScanner(text)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		into, ok := wanted[name]
		if !ok {
			continue
		}
		n, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return heapSample{}, fmt.Errorf("parse metric %s: %w", name, err)
		}
		*into = n
		delete(wanted, name)
	}
	if err := lines.Err(); err != nil {
		return heapSample{}, fmt.Errorf("read metrics: %w", err)
	}
	for name := range wanted {
		return heapSample{}, fmt.Errorf("%s: %w", name, errNoMetric)
	}
	return s, nil
}

func readHeap(ctx context.Context, client *http.Client, target string) (_ heapSample, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return heapSample{}, err
	}
	response, err := client.Do(request)
	if err != nil {
		return heapSample{}, err
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	if response.StatusCode != http.StatusOK {
		return heapSample{}, fmt.Errorf("GET %s: %s", target, response.Status)
	}
	return parseHeap(response.Body)
}

// liveHeap returns the bytes that a program's heap holds after garbage
// collections. The scrapes themselves make the garbage that has one begin, so
// little that the lowest of them is what is live. The second collection counts:
// the first may have begun while something was still under way.
func liveHeap(ctx context.Context, client *http.Client, target string) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, heapLimit)
	defer cancel()
	first, err := readHeap(ctx, client, target)
	if err != nil {
		return 0, err
	}
	lowest := 0.0
	for {
		s, err := readHeap(ctx, client, target)
		if err != nil {
			return 0, fmt.Errorf("wait for the garbage collection: %w", err)
		}
		if s.Cycles >= first.Cycles+2 && (lowest == 0 || s.Live < lowest) {
			lowest = s.Live
		}
		if s.Cycles >= first.Cycles+3 {
			return lowest, nil
		}
	}
}

package main

import (
	"errors"
	"strings"
	"testing"
	"time"
)

const wrkReport = `Running 4s test @ http://127.0.0.1:24680
  2 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.25ms  612.10us  21.55ms   96.01%
    Req/Sec    24.70k   197.96    26.17k    77.27%
  Latency Distribution
     50%  812.00us
     75%    1.34ms
     90%    1.96ms
     99%    2.96ms
  197208 requests in 4.01s, 226.50MB read
Requests/sec:  49178.05
Transfer/sec:     56.48MB
`

func TestParseWrk(t *testing.T) {
	r, err := parseWrk(wrkReport)
	if err != nil {
		t.Fatal(err)
	}
	want := loadResult{Requests: 197208, Elapsed: 4010 * time.Millisecond, PerSecond: 49178.05,
		P50: 812 * time.Microsecond, P99: 2960 * time.Microsecond, ReadBytes: 226.5 * (1 << 20)}
	if r != want {
		t.Errorf("parsed %+v, want %+v", r, want)
	}
	if faults := r.faults(); faults != "" {
		t.Errorf("a clean run has faults: %s", faults)
	}
}

func TestParseWrkErrors(t *testing.T) {
	text := strings.Replace(wrkReport, "Requests/sec:",
		"  Socket errors: connect 1, read 2, write 3, timeout 4\n  Non-2xx or 3xx responses: 5\nRequests/sec:", 1)
	r, err := parseWrk(text)
	if err != nil {
		t.Fatal(err)
	}
	if r.errors() != 15 {
		t.Errorf("%d errors counted, want 15", r.errors())
	}
	want := "5 bad statuses, 1 connect errors, 2 read errors, 3 write errors, 4 timeouts"
	if got := r.faults(); got != want {
		t.Errorf("faults %q, want %q", got, want)
	}
}

func TestShortBodiesAreAFault(t *testing.T) {
	r, err := parseWrk(strings.Replace(wrkReport, "226.50MB read", "20.50MB read", 1))
	if err != nil {
		t.Fatal(err)
	}
	if got := r.faults(); !strings.Contains(got, "less than the body") {
		t.Errorf("responses of 109 bytes have faults %q", got)
	}
	r, err = parseWrk(strings.Replace(wrkReport, "197208 requests", "0 requests", 1))
	if err != nil {
		t.Fatal(err)
	}
	if got := r.faults(); got != "no requests completed" {
		t.Errorf("a run without requests has faults %q", got)
	}
}

func TestParseWrkRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"empty":           "",
		"cut off":         wrkReport[:strings.Index(wrkReport, "197208")],
		"no percentiles":  strings.ReplaceAll(wrkReport, "%  ", "#  "),
		"one percentile":  strings.Replace(wrkReport, "     99%    2.96ms\n", "", 1),
		"strange unit":    strings.Replace(wrkReport, "812.00us", "812.00parsecs", 1),
		"no rate":         strings.Replace(wrkReport, "49178.05", "-nan", 1),
		"strange size":    strings.Replace(wrkReport, "226.50MB", "lots", 1),
		"overflow number": strings.Replace(wrkReport, "197208", "99999999999999999999", 1),
	} {
		if _, err := parseWrk(text); !errors.Is(err, errWrkOutput) {
			t.Errorf("%s: %v, want %v", name, err, errWrkOutput)
		}
	}
}

func TestParseWrkUnits(t *testing.T) {
	for field, want := range map[string]time.Duration{
		"0.00us": 0, "1.50us": 1500 * time.Nanosecond, "2.00ms": 2 * time.Millisecond,
		"1.25s": 1250 * time.Millisecond, "1.50m": 90 * time.Second, "1.00h": time.Hour,
	} {
		if got, err := parseWrkDuration(field); err != nil || got != want {
			t.Errorf("duration %s: %v, %v, want %v", field, got, err, want)
		}
	}
	for field, want := range map[string]float64{"512.00B": 512, "1.50KB": 1536, "2.00GB": 2 << 30} {
		if got, err := parseWrkBytes(field); err != nil || got != want {
			t.Errorf("size %s: %v, %v, want %v", field, got, err, want)
		}
	}
	for _, field := range []string{"", "us", "1.0", "-1.00ms", "1.00msms", "nans", "1e300s"} {
		if got, err := parseWrkDuration(field); err == nil {
			t.Errorf("duration %q was read as %v", field, got)
		}
	}
}

package observe

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Requests are the metrics of requests, by route, subset, rung and class of
// status code. All labels come from the configuration. Series are made when a
// route is configured; a request only adds to them.
type Requests struct {
	rungs     []string
	requests  *prometheus.Desc
	durations *prometheus.Desc
	retries   *prometheus.Desc

	mu     sync.Mutex
	series map[seriesKey]*RequestSeries // guarded by mu
}

var _ prometheus.Collector = (*Requests)(nil)

type seriesKey struct{ route, subset string }

// classes are the label "code" by a status's first digit; a request that got
// no status has "none".
var classes = [...]string{"none", "1xx", "2xx", "3xx", "4xx", "5xx"}

// buckets are the upper bounds of the latency histogram: from what a proxy in
// front of a cache takes to well over the default timeout of a request.
var buckets = [...]time.Duration{
	250 * time.Microsecond, 500 * time.Microsecond,
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond,
	10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second,
}

// maxRungs is how many rungs there may be: as many as leave room for the rest
// of a cache line in [RequestSeries].
const maxRungs = 6

// RequestSeries counts the requests of a route that took one subset. It is
// safe for concurrent use. With thousands of routes a request finds its series
// in no cache, so that what nearly all count lies in the first two lines: the
// buckets up to 25 ms, and the answers of class 2xx on any rung.
type RequestSeries struct {
	nanos   atomic.Int64
	buckets [7]atomic.Uint64 // not cumulative

	succeeded [maxRungs]atomic.Uint64 // of class 2xx
	retries   atomic.Uint64
	rungs     uint64 // how many have a name

	slower [len(buckets) + 1 - 7]atomic.Uint64   // the other buckets; the last: longer
	others [len(classes)][maxRungs]atomic.Uint64 // but 2xx
}

// class2xx is the index in classes.
const class2xx = 2

func (s *RequestSeries) bucket(n int) *atomic.Uint64 {
	if n < len(s.buckets) {
		return &s.buckets[n]
	}
	return &s.slower[n-len(s.buckets)]
}

func (s *RequestSeries) requests(rung, class int) *atomic.Uint64 {
	if class == class2xx {
		return &s.succeeded[rung]
	}
	return &s.others[class][rung]
}

// NewRequests registers the metrics. rungs are the names of the rungs by
// index; the first one also takes what has no known index.
func NewRequests(reg prometheus.Registerer, rungs []string) (*Requests, error) {
	if len(rungs) == 0 || len(rungs) > maxRungs {
		return nil, fmt.Errorf("request metrics: found %d rungs, allowed 1 to %d", len(rungs), maxRungs)
	}
	labels := []string{"route", "subset"}
	m := &Requests{
		rungs: rungs,
		requests: prometheus.NewDesc("grayfed_requests_total",
			"Requests answered, by route, subset, rung of the ladder and class of status code.",
			append(labels, "rung", "code"), nil),
		durations: prometheus.NewDesc("grayfed_request_duration_seconds",
			"Time from the first byte of a request to the last of its response.", labels, nil),
		retries: prometheus.NewDesc("grayfed_request_retries_total",
			"Attempts beyond the first.", labels, nil),
		series: make(map[seriesKey]*RequestSeries),
	}
	if reg == nil {
		return m, nil
	}
	return m, reg.Register(m)
}

// For returns the series of a route's subset ("baseline", a release's name,
// "none"): the same for the same arguments until they are forgotten.
func (m *Requests) For(route, subset string) *RequestSeries {
	key := seriesKey{route, subset}
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.series[key]
	if s == nil {
		s = &RequestSeries{rungs: uint64(len(m.rungs))}
		m.series[key] = s
	}
	return s
}

// Forget drops the series that keep does not want, because no configuration
// names their route or subset any more. What is still counted on them is lost.
func (m *Requests) Forget(keep func(route, subset string) bool) {
	m.mu.Lock()
	keys := make([]seriesKey, 0, len(m.series))
	for key := range m.series {
		keys = append(keys, key)
	}
	m.mu.Unlock()
	for _, key := range keys {
		if !keep(key.route, key.subset) {
			m.mu.Lock()
			delete(m.series, key)
			m.mu.Unlock()
		}
	}
}

// Observe counts a request that ended on a rung with a status (0: none) after
// d. It allocates nothing.
func (s *RequestSeries) Observe(rung uint8, status int, d time.Duration) {
	class := status / 100
	if class < 0 || class >= len(classes) {
		class = 0
	}
	if uint64(rung) >= s.rungs {
		rung = 0
	}
	n := 0
	for n < len(buckets) && d > buckets[n] {
		n++
	}
	s.requests(int(rung), class).Add(1)
	s.bucket(n).Add(1)
	s.nanos.Add(int64(d))
}

// Retried counts n attempts beyond the first.
func (s *RequestSeries) Retried(n int) { s.retries.Add(uint64(max(n, 0))) }

// Describe implements [prometheus.Collector].
func (m *Requests) Describe(out chan<- *prometheus.Desc) {
	out <- m.requests
	out <- m.durations
	out <- m.retries
}

// Collect implements [prometheus.Collector]. Of a series it tells what ever
// counted: 10,000 routes times every rung and class would drown the rest.
func (m *Requests) Collect(out chan<- prometheus.Metric) {
	type entry struct {
		seriesKey
		*RequestSeries
	}
	m.mu.Lock()
	entries := make([]entry, 0, len(m.series))
	for key, s := range m.series {
		entries = append(entries, entry{key, s})
	}
	m.mu.Unlock()
	for _, e := range entries {
		m.collect(out, e.seriesKey, e.RequestSeries)
	}
}

func (m *Requests) collect(out chan<- prometheus.Metric, key seriesKey, s *RequestSeries) {
	send := func(desc *prometheus.Desc, metric prometheus.Metric, err error) {
		if err != nil {
			metric = prometheus.NewInvalidMetric(desc, err)
		}
		out <- metric
	}
	counter := func(desc *prometheus.Desc, n uint64, labels ...string) {
		if n > 0 {
			metric, err := prometheus.NewConstMetric(desc, prometheus.CounterValue, float64(n), labels...)
			send(desc, metric, err)
		}
	}
	for rung := range m.rungs {
		for class := range classes {
			counter(m.requests, s.requests(rung, class).Load(), key.route, key.subset, m.rungs[rung], classes[class])
		}
	}
	counter(m.retries, s.retries.Load(), key.route, key.subset)

	cumulative := make(map[float64]uint64, len(buckets))
	var count uint64
	for n, bound := range buckets {
		count += s.bucket(n).Load()
		cumulative[bound.Seconds()] = count
	}
	count += s.bucket(len(buckets)).Load()
	if count > 0 {
		sum := time.Duration(s.nanos.Load()).Seconds()
		metric, err := prometheus.NewConstHistogram(m.durations, count, sum, cumulative, key.route, key.subset)
		send(m.durations, metric, err)
	}
}

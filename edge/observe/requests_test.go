package observe_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/grayfed/grayfed/edge/observe"
)

var rungs = []string{"none", "canary-here", "baseline-here"}

func newRequests(t testing.TB) (*observe.Requests, *prometheus.Registry) {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	m, err := observe.NewRequests(reg, rungs)
	if err != nil {
		t.Fatal(err)
	}
	return m, reg
}

func TestRequestsAreCountedByRouteSubsetRungAndClass(t *testing.T) {
	m, reg := newRequests(t)
	users := m.For("users", "v2-beta")
	users.Observe(1, 200, 400*time.Microsecond)
	users.Observe(1, 204, 500*time.Microsecond)
	users.Observe(1, 503, 20*time.Second)
	users.Observe(200, 700, 0) // neither rung nor class is known
	users.Observe(3, 700, 0)   // the first without a name
	users.Retried(2)
	m.For("users", "baseline").Observe(2, 101, time.Second)
	m.For("silent", "baseline")

	want := []string{
		`grayfed_request_duration_seconds{route="users",subset="baseline"} count 1 sum 1 0 0 0 0 0 0 0 0 0 0 0 1 1 1 1`,
		// 400 us and 500 us: a bound belongs to its own bucket.
		`grayfed_request_duration_seconds{route="users",subset="v2-beta"} count 5 sum 20.0009 2 4 4 4 4 4 4 4 4 4 4 4 4 4 4`,
		`grayfed_request_retries_total{route="users",subset="v2-beta"} 2`,
		`grayfed_requests_total{code="1xx",route="users",rung="baseline-here",subset="baseline"} 1`,
		`grayfed_requests_total{code="2xx",route="users",rung="canary-here",subset="v2-beta"} 2`,
		`grayfed_requests_total{code="5xx",route="users",rung="canary-here",subset="v2-beta"} 1`,
		`grayfed_requests_total{code="none",route="users",rung="none",subset="v2-beta"} 2`,
	}
	if got := gather(t, reg); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// gather is every metric as a line, sorted; of histograms, the cumulative
// counts by bucket.
func gather(t *testing.T, reg *prometheus.Registry) []string {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			var labels []string
			for _, label := range metric.GetLabel() {
				labels = append(labels, fmt.Sprintf("%s=%q", label.GetName(), label.GetValue()))
			}
			line := family.GetName() + "{" + strings.Join(labels, ",") + "} "
			if h := metric.GetHistogram(); h != nil {
				line += fmt.Sprintf("count %d sum %v", h.GetSampleCount(), h.GetSampleSum())
				for _, bucket := range h.GetBucket() {
					line += fmt.Sprintf(" %d", bucket.GetCumulativeCount())
				}
			} else {
				line += fmt.Sprint(metric.GetCounter().GetValue())
			}
			lines = append(lines, line)
		}
	}
	return lines
}

func TestSameArgumentsAreTheSameSeries(t *testing.T) {
	m, _ := newRequests(t)
	series := m.For("users", "baseline")
	if m.For("users", "baseline") != series {
		t.Error("two series for the same route and subset")
	}
	if m.For("users", "v2-beta") == series || m.For("orders", "baseline") == series {
		t.Error("one series for two")
	}
}

func TestForgetDropsWhatNoConfigurationNames(t *testing.T) {
	m, reg := newRequests(t)
	for _, key := range [][2]string{{"users", "baseline"}, {"users", "v2-beta"}, {"orders", "baseline"}} {
		m.For(key[0], key[1]).Observe(0, 200, time.Second)
	}
	kept := m.For("users", "baseline")
	m.Forget(func(route, subset string) bool { return route == "users" && subset != "v2-beta" })
	if m.For("users", "baseline") != kept {
		t.Error("a series that is still named was made anew")
	}
	want := `grayfed_requests_total{code="2xx",route="users",rung="none",subset="baseline"} 1`
	got := slices.DeleteFunc(gather(t, reg), func(line string) bool { return !strings.HasPrefix(line, "grayfed_requests_total") })
	if !slices.Equal(got, []string{want}) {
		t.Errorf("got %q, want %q alone", got, want)
	}
}

func TestRequestsWantsRungs(t *testing.T) {
	if _, err := observe.NewRequests(nil, nil); err == nil {
		t.Error("no error without a rung")
	}
	if _, err := observe.NewRequests(nil, make([]string, 7)); err == nil {
		t.Error("no error with more rungs than there is room for")
	}
}

// Of many series each finds its memory in no cache.
func BenchmarkObserve(b *testing.B) {
	for _, n := range []int{1, 10_000} {
		b.Run(fmt.Sprintf("series=%d", n), func(b *testing.B) {
			m, _ := newRequests(b)
			all := make([]*observe.RequestSeries, n)
			for i, at := range rand.Perm(n) {
				all[at] = m.For(fmt.Sprintf("r%d", i), "baseline")
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				all[i%n].Observe(1, 200, 900*time.Microsecond)
			}
		})
	}
}

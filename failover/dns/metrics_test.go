package dns

import (
	"net"
	"strings"
	"testing"

	wire "github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
)

func TestMetrics(t *testing.T) {
	o := options()
	registry := prometheus.NewRegistry()
	o.Registerer = registry
	s := serve(t, o, three()...)
	server := s.Address().String()
	series := func() (n int) {
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			n += len(f.Metric)
		}
		return n
	}
	all := series()
	for _, q := range []*wire.Msg{
		question(gateway, wire.TypeA), question(gateway, wire.TypeA), question(gateway, wire.TypeTXT),
		question(srv, wire.TypeSRV), question("x.example.test.", wire.TypeA), question("other.org.", 65281),
	} {
		exchange(t, "udp", server, q)
	}
	conn, err := net.Dial("udp", server)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	for _, msg := range []string{"x", "an\x80wer------", "\x01\x02\x28\x00\x00\x00\x00\x00\x00\x00\x00\x00"} {
		if _, err := conn.Write([]byte(msg)); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "all is counted", func() bool { return s.metrics.queries[kindOther][codeNotImplemented].Load() == 1 })
	got := make(map[string]float64)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.Metric {
			name := strings.TrimPrefix(f.GetName(), "grayfed_dns_")
			for _, l := range m.Label {
				name += " " + l.GetValue()
			}
			if v := m.GetCounter().GetValue() + m.GetGauge().GetValue(); v > 0 {
				got[name] = v
			}
		}
	}
	for name, v := range map[string]float64{
		"queries_total NOERROR A": 2, "queries_total NODATA other": 1, "queries_total NOERROR SRV": 1,
		"queries_total NXDOMAIN A": 1, "queries_total REFUSED other": 1, "queries_total NOTIMP other": 1,
		"drops_total short": 1, "drops_total response": 1, "entries": 3,
	} {
		if got[name] != v {
			t.Errorf("%s is %v, want %v", name, got[name], v)
		}
		delete(got, name)
	}
	if len(got) > 0 {
		t.Errorf("counted besides: %v", got)
	}
	if after := series(); after != all {
		t.Errorf("%d series, before the queries %d: strangers make them", after, all)
	}
}

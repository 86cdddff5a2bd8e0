package dns

import (
	"sync/atomic"

	wire "github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
)

// code is what an answer says of itself.
type code uint8

const (
	codeNone code = iota
	codeNoError
	codeNoData // NOERROR without an answer: the name has no such records
	codeFormatError
	codeServerFailure
	codeNameError
	codeNotImplemented
	codeRefused
	codeBadVersion
	numCodes
)

var codes = [numCodes]struct {
	label string
	rcode uint16
}{
	codeNoError:        {"NOERROR", wire.RcodeSuccess},
	codeNoData:         {"NODATA", wire.RcodeSuccess},
	codeFormatError:    {"FORMERR", wire.RcodeFormatError},
	codeServerFailure:  {"SERVFAIL", wire.RcodeServerFailure},
	codeNameError:      {"NXDOMAIN", wire.RcodeNameError},
	codeNotImplemented: {"NOTIMP", wire.RcodeNotImplemented},
	codeRefused:        {"REFUSED", wire.RcodeRefused},
	codeBadVersion:     {"BADVERS", wire.RcodeBadVers},
}

// drop is why something got no answer.
type drop uint8

const (
	dropNone drop = iota
	dropShort
	dropResponse
	dropLong
	dropSlow
	dropConnection
	dropRead
	dropWrite
	drops
)

var dropLabels = [drops]string{
	dropShort:      "short",       // no header
	dropResponse:   "response",    // it is an answer itself
	dropLong:       "long",        // by TCP, longer than any question
	dropSlow:       "slow",        // by TCP, not all of it came in time
	dropConnection: "connections", // too many by TCP
	dropRead:       "read",        // the system failed to receive
	dropWrite:      "write",       // the system failed to send
}

var kindLabels = [kinds]string{
	kindA: "A", kindAAAA: "AAAA", kindSRV: "SRV", kindNS: "NS", kindSOA: "SOA",
	kindAny: "ANY", kindOther: "other",
}

// metrics counts what is asked and answered.
type metrics struct {
	queries   [kinds][numCodes]atomic.Uint64
	drops     [drops]atomic.Uint64
	truncated atomic.Uint64
	entries   atomic.Int64
	open      atomic.Int64 // connections
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{}
	if reg == nil {
		return m, nil
	}
	var collectors []prometheus.Collector
	counter := func(name, help string, labels prometheus.Labels, v *atomic.Uint64) {
		collectors = append(collectors, prometheus.NewCounterFunc(
			prometheus.CounterOpts{Name: name, Help: help, ConstLabels: labels},
			func() float64 { return float64(v.Load()) }))
	}
	gauge := func(name, help string, v *atomic.Int64) {
		collectors = append(collectors, prometheus.NewGaugeFunc(
			prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return float64(v.Load()) }))
	}
	for k := range kinds {
		for c := codeNone + 1; c < numCodes; c++ {
			counter("grayfed_dns_queries_total", "DNS queries answered, by type and code.",
				prometheus.Labels{"type": kindLabels[k], "code": codes[c].label}, &m.queries[k][c])
		}
	}
	for d := dropNone + 1; d < drops; d++ {
		counter("grayfed_dns_drops_total", "DNS messages and connections that got no answer, by reason.",
			prometheus.Labels{"reason": dropLabels[d]}, &m.drops[d])
	}
	counter("grayfed_dns_truncated_total", "DNS answers by UDP that did not fit.", nil, &m.truncated)
	gauge("grayfed_dns_entries", "Edges that DNS answers with.", &m.entries)
	gauge("grayfed_dns_connections", "Open connections of DNS clients.", &m.open)
	for _, c := range collectors {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) answered(k kind, c code, truncated bool) {
	m.queries[k][c].Add(1)
	if truncated {
		m.truncated.Add(1)
	}
}

func (m *metrics) dropped(d drop) { m.drops[d].Add(1) }

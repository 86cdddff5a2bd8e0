package listen

import (
	"crypto/tls"
	"errors"
	"net"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// stage is a step between accepting a connection and its codec.
type stage uint8

const (
	stageProxy stage = iota
	stageTLS
	stagePreface
	stageCount
)

// cause is why a connection did not come past a stage.
type cause uint8

const (
	causeTimeout     cause = iota
	causeClosed            // by the client, or by the listener that closes
	causeUntrusted         // the peer may not send a PROXY header
	causeMalformed         // a PROXY header; bytes that are no TLS
	causeCertificate       // the client's is not accepted
	causeRejected          // the client's TLS refused, as it says itself
	causeProtocol          // anything else: no version, suite or protocol in common
	causeCount
)

// failures counts connections that did not reach a codec.
type failures [stageCount][causeCount]atomic.Uint64

// register makes the series of what can happen.
func (f *failures) register(reg prometheus.Registerer, name string) error {
	if reg == nil {
		return nil
	}
	stages := [stageCount]string{"proxy", "tls", "preface"}
	causes := [causeCount]string{"timeout", "closed", "untrusted", "malformed", "certificate", "rejected", "protocol"}
	for s, happens := range [stageCount][]cause{
		stageProxy:   {causeTimeout, causeClosed, causeUntrusted, causeMalformed, causeProtocol},
		stageTLS:     {causeTimeout, causeClosed, causeMalformed, causeCertificate, causeRejected, causeProtocol},
		stagePreface: {causeTimeout, causeClosed, causeProtocol},
	} {
		for _, c := range happens {
			counter := prometheus.NewCounterFunc(prometheus.CounterOpts{
				Name: "grayfed_listener_greeting_failures_total", Help: "Connections that ended before their first request could be read, by stage and reason.",
				ConstLabels: prometheus.Labels{"listener": name, "stage": stages[s], "reason": causes[c]},
			}, func() float64 { return float64(f[s][c].Load()) })
			if err := reg.Register(counter); err != nil {
				return err
			}
		}
	}
	return nil
}

func (f *failures) count(s stage, err error) { f[s][causeOf(err)].Add(1) }

func causeOf(err error) cause {
	if timedOut(err) {
		return causeTimeout
	}
	if goneAway(err) {
		return causeClosed
	}
	if errors.Is(err, errUntrusted) {
		return causeUntrusted
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok || errors.Is(err, errMalformed) {
		return causeMalformed
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return causeCertificate
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "remote error" { // crypto/tls, of an alert
		return causeRejected
	}
	return causeProtocol
}

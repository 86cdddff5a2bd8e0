package observe

import (
	"net/netip"
	"time"
)

// Record is one finished request as the access log writes it. Any of its
// strings may be a view into a buffer that is used again: [AccessLog.Log]
// copies them before it returns.
type Record struct {
	Time     time.Time // when its first byte was seen
	ID       string
	Remote   netip.AddrPort // the connection's peer
	ClientIP string         // whom the request is attributed to; empty: Remote's address

	Method, Scheme, Host, Path string
	// Query is written only where AccessLogOptions.Query allows it.
	Query string
	Proto string

	Route, Service, Release, Subset, Zone, Rung, Reason string
	// Upstream is the id of the instance that was tried last, UpstreamAddr its
	// host:port; empty when none was.
	Upstream, UpstreamAddr string
	// Through is the edge that the last attempt was sent through, From the one
	// that sent the request here; empty for none.
	Through, From string

	Status int // sent to the client; 0: none
	// GRPCStatus is the number that ended a gRPC call; empty: it was none, or
	// ended without.
	GRPCStatus                  string
	RequestBytes, ResponseBytes int64 // of the bodies
	// Duration is from the first byte of the request to the last of the
	// response.
	Duration time.Duration
	// UpstreamDuration is that of the last attempt, from the request sent to
	// the response's head.
	UpstreamDuration time.Duration
	Retries          int

	// Error, Phase and Fault say what failed, how far the request had come and
	// whose fault it was; empty when nothing failed.
	Error, Phase, Fault string

	UserAgent, TraceID string
}

// texts are all strings of the record, in one place, so that none is left
// uncopied.
func (r *Record) texts() [25]*string {
	return [...]*string{
		&r.ID, &r.ClientIP, &r.Method, &r.Scheme, &r.Host, &r.Path, &r.Query, &r.Proto,
		&r.Route, &r.Service, &r.Release, &r.Subset, &r.Zone, &r.Rung, &r.Reason,
		&r.Upstream, &r.UpstreamAddr, &r.Error, &r.Phase, &r.Fault, &r.UserAgent, &r.TraceID, &r.GRPCStatus,
		&r.Through, &r.From,
	}
}

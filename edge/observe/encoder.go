package observe

import (
	"context"
	"log/slog"
)

// encoder writes records as lines by slog's JSON handler, without garbage: the
// attributes go in as one group without a key, which slog inlines, because a
// slog.Record of more than five attributes allocates; and durations are whole
// microseconds, because its floats go through package json.
type encoder struct {
	handler slog.Handler
	query   bool
	attrs   []slog.Attr
	address []byte
}

func (e *encoder) encode(r *Record) {
	client, remote := r.ClientIP, ""
	if r.Remote.IsValid() {
		e.address = r.Remote.Addr().AppendTo(e.address[:0])
		split := len(e.address)
		e.address = r.Remote.AppendTo(e.address)
		remote = view(e.address[split:])
		if client == "" {
			client = view(e.address[:split])
		}
	}
	e.attrs = append(e.attrs[:0],
		slog.String("id", r.ID),
		slog.String("client", client),
		slog.String("remote", remote),
		slog.String("method", r.Method),
		slog.String("scheme", r.Scheme),
		slog.String("host", r.Host),
		slog.String("path", r.Path),
		slog.String("proto", r.Proto),
		slog.Int("status", r.Status),
		slog.String("route", r.Route),
		slog.String("service", r.Service),
		slog.String("release", r.Release),
		slog.String("subset", r.Subset),
		slog.String("zone", r.Zone),
		slog.String("rung", r.Rung),
		slog.String("reason", r.Reason),
		slog.String("upstream", r.Upstream),
		slog.String("upstream_address", r.UpstreamAddr),
		slog.Int("retries", r.Retries),
		slog.Int64("duration_us", r.Duration.Microseconds()),
		slog.Int64("upstream_duration_us", r.UpstreamDuration.Microseconds()),
		slog.Int64("request_bytes", r.RequestBytes),
		slog.Int64("response_bytes", r.ResponseBytes),
		slog.String("user_agent", r.UserAgent),
	)
	e.optional("query", r.Query, e.query)
	e.optional("trace_id", r.TraceID, true)
	e.optional("error", r.Error, true)
	e.optional("phase", r.Phase, true)
	e.optional("fault", r.Fault, true)

	line := slog.NewRecord(r.Time.UTC(), slog.LevelInfo, "request", 0)
	line.AddAttrs(slog.Attr{Value: slog.GroupValue(e.attrs...)})
	_ = e.handler.Handle(context.Background(), line) // it writes to memory
}

func (e *encoder) optional(key, value string, wanted bool) {
	if wanted && value != "" {
		e.attrs = append(e.attrs, slog.String(key, value))
	}
}

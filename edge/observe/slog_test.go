package observe

import (
	"bytes"
	"context"
	"log/slog"
	"net/netip"
	"testing"
	"time"
)

// bySlog is the line that slog's JSON handler makes of a record.
func bySlog(handler slog.Handler, r *Record) error {
	client, remote := r.ClientIP, ""
	if r.Remote.IsValid() {
		remote = r.Remote.String()
		if client == "" {
			client = r.Remote.Addr().String()
		}
	}
	millis := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	l := slog.NewRecord(r.Time.UTC(), slog.LevelInfo, "request", 0)
	l.AddAttrs(
		slog.String("id", r.ID), slog.String("client", client), slog.String("remote", remote),
		slog.String("method", r.Method), slog.String("scheme", r.Scheme), slog.String("host", r.Host),
		slog.String("path", r.Path), slog.String("proto", r.Proto), slog.Int("status", r.Status),
		slog.String("route", r.Route), slog.String("service", r.Service), slog.String("release", r.Release),
		slog.String("subset", r.Subset), slog.String("zone", r.Zone), slog.String("rung", r.Rung),
		slog.String("reason", r.Reason), slog.String("upstream", r.Upstream), slog.String("upstream_address", r.UpstreamAddr),
		slog.Int("retries", r.Retries), slog.Float64("duration_ms", millis(r.Duration)),
		slog.Float64("upstream_duration_ms", millis(r.UpstreamDuration)),
		slog.Int64("request_bytes", r.RequestBytes), slog.Int64("response_bytes", r.ResponseBytes),
		slog.String("user_agent", r.UserAgent),
	)
	for _, o := range []struct{ key, value string }{
		{"query", r.Query}, {"through_edge", r.Through}, {"from_edge", r.From}, {"grpc_status", r.GRPCStatus}, {"trace_id", r.TraceID}, {"error", r.Error}, {"phase", r.Phase}, {"fault", r.Fault},
	} {
		if o.value != "" {
			l.AddAttrs(slog.String(o.key, o.value))
		}
	}
	return handler.Handle(context.Background(), l)
}

// FuzzEncode holds the encoder against slog, byte by byte.
func FuzzEncode(f *testing.F) {
	f.Add("/a\n{\"id\":\"forged\"}", "\x00\x1b[31m\u007f", 200, int64(1), int64(-1), []byte{10, 0, 0, 7})
	f.Add("\xff\xfe\xc3", `"\`+"\r\n\t", -5, int64(2_500_000), int64(1_000_999), []byte{})
	f.Add("\u2027\u2028\u2029\u202a", "\ufffd\xe2\x80", 1<<40, int64(1_010_000), int64(1_100_000), make([]byte, 16))
	f.Fuzz(func(t *testing.T, a, b string, number int, took, upstream int64, addr []byte) {
		took, upstream = took%1e15, upstream%1e15 // eleven days: floats stay exact
		r := Record{
			Time: time.Unix(took%(1<<32), upstream), ID: a, Method: b, Scheme: a, Host: b, Path: a, Query: b, Proto: a,
			Route: b, Service: a, Release: b, Subset: a, Zone: b, Rung: a, Reason: b, Upstream: a, UpstreamAddr: b,
			Status: number, Retries: -number, RequestBytes: took, ResponseBytes: upstream,
			Duration: time.Duration(took), UpstreamDuration: time.Duration(upstream),
			Error: a, Phase: b, Fault: a, UserAgent: b, TraceID: a, GRPCStatus: b, Through: a, From: b,
		}
		if from, ok := netip.AddrFromSlice(addr); ok {
			r.Remote = netip.AddrPortFrom(from, uint16(number))
		} else {
			r.ClientIP = b
		}
		var want bytes.Buffer
		if err := bySlog(slog.NewJSONHandler(&want, nil), &r); err != nil {
			t.Fatal(err)
		}
		e := encoder{query: true}
		if got := e.encode([]byte("before"), &r); string(got) != "before"+want.String() {
			t.Errorf("got\n%s\nwant\n%s", got, want.String())
		}
	})
}

// BenchmarkSlog is what slog would cost in place of BenchmarkEncode.
func BenchmarkSlog(b *testing.B) {
	var out bytes.Buffer
	handler := slog.NewJSONHandler(&out, nil)
	record := benchRecord()
	b.ReportAllocs()
	for b.Loop() {
		out.Reset()
		if err := bySlog(handler, &record); err != nil {
			b.Fatal(err)
		}
	}
}

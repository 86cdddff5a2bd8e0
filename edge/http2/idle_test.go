//go:build !race

package http2

import (
	"runtime"
	"testing"
)

// TestQuietConnectionsHoldLittle has connections that were used once and are
// quiet since.
func TestQuietConnectionsHoldLittle(t *testing.T) {
	r := newRig(t, Options{Handler: newReuse()})
	const n = 300
	clients := make([]*raw, 0, n)
	for range n {
		client := dialRaw(t, r.address)
		client.headers(1, true, get("a", "b")...)
		client.response(1)
		client.framer, client.dec, client.enc = nil, nil, nil
		clients = append(clients, client)
	}
	await(t, "the buffers' return", func() bool {
		for _, c := range r.server.all() {
			if c.holds.Load() {
				return false
			}
		}
		return true
	})
	used := func() uint64 {
		var stats runtime.MemStats
		runtime.GC()
		runtime.GC() // the first leaves pools their second chance
		runtime.ReadMemStats(&stats)
		return stats.HeapAlloc + stats.StackInuse
	}
	with := used()
	for _, client := range clients {
		_ = client.nc.Close()
	}
	await(t, "the connections' end", func() bool { return len(r.server.all()) == 0 })
	without := used()
	if each := (int64(with) - int64(without)) / n; each > 12<<10 {
		t.Errorf("a quiet connection holds %d bytes", each)
	}
	// They go on where they were.
	client := dialRaw(t, r.address)
	client.headers(1, true, get("a", "b")...)
	client.response(1)
	await(t, "the buffer's return", func() bool { return !r.server.all()[0].holds.Load() })
	client.headers(3, true, get("a", "b")...) // by the table's index
	if got := client.response(3); got.status != "200" {
		t.Errorf("got %+v", got)
	}
}

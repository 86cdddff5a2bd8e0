package http1

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime/metrics"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestStreamsWithoutWaiting: each piece is passed on as it comes, the head
// first, in both directions at once. Each side speaks only when it has heard
// the other.
func TestStreamsWithoutWaiting(t *testing.T) {
	for name, head := range map[string]string{
		"chunked":       "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
		"with a length": "HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n",
		"until the end": "HTTP/1.1 200 OK\r\n\r\n",
	} {
		origin := newOrigin(t, func(o *origin, nc net.Conn) {
			if o.readUntil(nc, "\r\n\r\n") == "" {
				return
			}
			_, _ = io.WriteString(nc, head)
			for i := range 10 {
				if o.readUntil(nc, fmt.Sprintf("up%d\r\n", i)) == "" {
					return
				}
				answer := fmt.Sprintf("dn%d", i)
				if name == "chunked" {
					answer = "3\r\n" + answer + "\r\n"
				}
				_, _ = io.WriteString(nc, answer)
			}
			o.readUntil(nc, "0\r\n\r\n")
			if name == "chunked" {
				_, _ = io.WriteString(nc, "0\r\n\r\n")
			}
		})
		rig, _ := newProxyRig(t, origin.address, nil)
		c := rig.dial()
		c.send(chunked(""))
		response, err := http.ReadResponse(c.r, nil) // before anything was sent
		if err != nil {
			t.Fatalf("%s: head: %v", name, err)
		}
		got := make([]byte, 3)
		for i := range 10 {
			c.send(fmt.Sprintf("3\r\nup%d\r\n", i))
			if _, err := io.ReadFull(response.Body, got); err != nil || string(got) != fmt.Sprintf("dn%d", i) {
				t.Fatalf("%s: piece %d: %q, %v", name, i, got, err)
			}
		}
		c.send("0\r\n\r\n")
		if rest, err := io.ReadAll(response.Body); len(rest) != 0 || err != nil {
			t.Errorf("%s: %q, %v at the end", name, rest, err)
		}
		_ = response.Body.Close()
	}
}

// TestLargeBodies carries 2 GiB each way, 256 MiB in a short run, and watches
// the heap: memory must not grow with the body.
func TestLargeBodies(t *testing.T) {
	size := int64(2 << 30)
	if testing.Short() {
		size = 256 << 20
	}
	const bound = 8 << 20 // of growth, pools and test included
	piece := bytes.Repeat([]byte("0123456789abcdef"), 64<<10/16)
	origin := newOrigin(t, func(o *origin, nc net.Conn) {
		_ = nc.SetDeadline(time.Time{})
		switch head := o.readUntil(nc, "\r\n\r\n"); head[:4] {
		case "POST":
			n, err := io.CopyN(io.Discard, nc, size)
			_, _ = io.WriteString(nc, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			if n != size || err != nil {
				t.Errorf("endpoint received %d bytes, %v", n, err)
			}
		default:
			_, err := fmt.Fprintf(nc, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", size)
			for left := size; left > 0 && err == nil; {
				var n int
				n, err = nc.Write(piece[:min(left, int64(len(piece)))])
				left -= int64(n)
			}
		}
	})
	rig, _ := newProxyRig(t, origin.address, nil)
	for _, method := range []string{"GET", "POST"} {
		before := heap()
		watch := watchHeap()
		c := rig.dial()
		_ = c.SetDeadline(time.Time{})
		if method == "GET" {
			c.send(get + "\r\n")
		} else {
			c.send(fmt.Sprintf("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: %d\r\n\r\n", size))
			for left := size; left > 0; {
				n, err := c.Write(piece[:min(left, int64(len(piece)))])
				if err != nil {
					t.Fatal(err)
				}
				left -= int64(n)
			}
		}
		response, err := http.ReadResponse(c.r, nil)
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
		if err != nil || method == "GET" && n != size {
			t.Errorf("%s: client received %d bytes, %v", method, n, err)
		}
		if most := watch() - before; most > bound {
			t.Errorf("%s of %d MiB: the heap grew by %d bytes", method, size>>20, most)
		}
	}
}

// watchHeap looks at the heap until the function it returns is called, which
// returns the most that was seen.
func watchHeap() func() int64 {
	var most atomic.Int64
	ended := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
		ticker := time.NewTicker(5 * time.Millisecond)
		defer ticker.Stop()
		for {
			metrics.Read(sample)
			most.Store(max(most.Load(), int64(sample[0].Value.Uint64())))
			select {
			case <-ended:
				return
			case <-ticker.C:
			}
		}
	})
	return func() int64 {
		close(ended)
		watching.Wait()
		return most.Load()
	}
}

// TestBackPressure: what the receiver does not take is not read from the
// sender, in either direction.
func TestBackPressure(t *testing.T) {
	const most = 64 << 20 // of both hops' socket buffers together, far above what they are
	var sent atomic.Int64
	flood := func(w io.Writer) {
		for piece := make([]byte, 64<<10); ; {
			n, err := w.Write(piece)
			if sent.Add(int64(n)); err != nil {
				return
			}
		}
	}
	stalls := func(what string) {
		t.Helper()
		last := int64(-1)
		eventually(t, what+" stalls", func() bool {
			time.Sleep(100 * time.Millisecond)
			now := sent.Load()
			still := now == last
			last = now
			return still || now > most
		})
		if last > most {
			t.Errorf("%s: %d bytes were taken off a receiver that reads nothing", what, last)
		}
		sent.Store(0)
	}
	hold := make(chan struct{})
	origin := newOrigin(t, func(o *origin, nc net.Conn) {
		if o.readUntil(nc, "\r\n\r\n")[0] == 'G' {
			_, _ = io.WriteString(nc, "HTTP/1.1 200 OK\r\n\r\n")
			flood(nc)
			return
		}
		<-hold
	})
	rig, _ := newProxyRig(t, origin.address, nil)
	c := rig.dial()
	c.send(get + "\r\n")
	stalls("a download")
	_ = c.Close()
	c = rig.dial()
	c.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 100000000000\r\n\r\n")
	var flooding sync.WaitGroup
	flooding.Go(func() { flood(c.Conn) })
	stalls("an upload")
	_ = c.Close()
	close(hold)
	flooding.Wait()
}

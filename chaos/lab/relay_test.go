package lab

import (
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// wire stands in for the TUN device: what the router sends comes from in, what
// the relay gives back goes to out.
type wire struct {
	in     chan []byte
	out    chan []byte
	closed chan struct{}
}

func newWire() *wire {
	return &wire{in: make(chan []byte), out: make(chan []byte, 2*relayQueue), closed: make(chan struct{})}
}

func (w *wire) Read(into []byte) (int, error) {
	select {
	case data := <-w.in:
		return copy(into, data), nil
	case <-w.closed:
		return 0, io.EOF
	}
}

func (w *wire) Write(data []byte) (int, error) {
	w.out <- data
	return len(data), nil
}

func (w *wire) Close() error {
	close(w.closed)
	return nil
}

var (
	a, b = netip.MustParseAddr("10.77.1.2"), netip.MustParseAddr("10.77.2.2")
	aToB = flow{a, b}
)

// datagram is an IPv4 packet of a size; the byte behind its head numbers it.
func datagram(from, to netip.Addr, size int, number byte) []byte {
	data := make([]byte, size)
	data[0] = 0x45
	binary.BigEndian.PutUint16(data[2:], uint16(size))
	copy(data[12:], from.AsSlice())
	copy(data[16:], to.AsSlice())
	data[20] = number
	return data
}

// relaying runs a relay in a bubble of its own time.
func relaying(t *testing.T, test func(t *testing.T, r *relay, w *wire)) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		r := newRelay(w)
		ended := make(chan error, 1)
		go func() { ended <- r.run() }()
		test(t, r, w)
		if err := r.close(); err != nil {
			t.Error(err)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestRelayDelaysOneDirection(t *testing.T) {
	relaying(t, func(t *testing.T, r *relay, w *wire) {
		r.set(aToB, 300*time.Millisecond, 0)
		begun := time.Now()
		w.in <- datagram(b, a, 100, 1) // nobody slows this way
		w.in <- datagram(a, b, 100, 2)
		w.in <- datagram(a, b, 1500, 3)
		for _, want := range []byte{2, 3} {
			if got := <-w.out; got[20] != want {
				t.Errorf("packet %d came, want %d", got[20], want)
			}
			if late := time.Since(begun); late != 300*time.Millisecond {
				t.Errorf("packet %d came after %s, want 300ms", want, late)
			}
		}
		synctest.Wait()
		if passed, dropped := r.counts(aToB); passed != 2 || dropped != 0 {
			t.Errorf("%d packets passed and %d were dropped, want 2 and 0", passed, dropped)
		}
	})
}

func TestRelayPaces(t *testing.T) {
	relaying(t, func(t *testing.T, r *relay, w *wire) {
		r.set(aToB, 100*time.Millisecond, 10_000)
		begun := time.Now()
		for n := range byte(3) {
			w.in <- datagram(a, b, 1000, n)
		}
		for n := range byte(3) {
			<-w.out
			want := time.Duration(n+1)*100*time.Millisecond + 100*time.Millisecond
			if late := time.Since(begun); late != want {
				t.Errorf("packet %d came after %s, want %s", n, late, want)
			}
		}
		// An idle line has saved nothing up, and owes nothing.
		time.Sleep(time.Minute)
		begun = time.Now()
		w.in <- datagram(a, b, 1000, 9)
		<-w.out
		if late := time.Since(begun); late != 200*time.Millisecond {
			t.Errorf("the packet after a pause came after %s, want 200ms", late)
		}
		r.set(aToB, 0, 1000)
		begun = time.Now()
		w.in <- datagram(a, b, 1000, 9)
		<-w.out
		if late := time.Since(begun); late != time.Second {
			t.Errorf("the packet at the lower rate came after %s, want 1s", late)
		}
	})
}

func TestRelayDropsBeyondItsQueue(t *testing.T) {
	relaying(t, func(t *testing.T, r *relay, w *wire) {
		r.set(aToB, time.Second, 0)
		const sent = relayQueue + 50
		for range sent {
			w.in <- datagram(a, b, 100, 0)
			synctest.Wait()
		}
		time.Sleep(time.Second)
		synctest.Wait()
		// One more than the queue holds has left it to be waited for.
		if passed, dropped := r.counts(aToB); passed != relayQueue+1 || dropped != sent-relayQueue-1 {
			t.Errorf("%d packets passed and %d were dropped of %d", passed, dropped, sent)
		}
	})
}

// TestRelayMindsOnlyPackets: what is no IPv4 packet is nobody's.
func TestRelayMindsOnlyPackets(t *testing.T) {
	relaying(t, func(t *testing.T, r *relay, w *wire) {
		r.set(aToB, 0, 0)
		six := datagram(a, b, 100, 1)
		six[0] = 0x60
		long := datagram(a, b, 100, 2)
		binary.BigEndian.PutUint16(long[2:], 101)
		for _, odd := range [][]byte{nil, {0x45}, six, long} {
			w.in <- odd
		}
		w.in <- datagram(a, b, 100, 3)
		if got := <-w.out; got[20] != 3 {
			t.Errorf("packet %d came", got[20])
		}
		synctest.Wait()
		if passed, dropped := r.counts(aToB); passed != 1 || dropped != 0 {
			t.Errorf("%d packets passed and %d were dropped, want 1 and 0", passed, dropped)
		}
	})
}

// clumsy is a device that fails to give a packet back.
type clumsy struct{ *wire }

func (clumsy) Write([]byte) (int, error) { panic("a slip") }

// TestRelaySlips: a panic is a way's end, not the program's.
func TestRelaySlips(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		r := newRelay(clumsy{w})
		ended := make(chan error, 1)
		go func() { ended <- r.run() }()
		r.set(aToB, time.Second, 0)
		if err := r.failed(); err != nil {
			t.Error(err)
		}
		w.in <- datagram(a, b, 100, 1)
		time.Sleep(time.Second)
		synctest.Wait()
		if err := r.failed(); err == nil || !strings.Contains(err.Error(), "panic: a slip") {
			t.Errorf("after a slip: %v", err)
		}
		if err := errors.Join(r.close(), <-ended); err != nil {
			t.Error(err)
		}
	})
}

func TestRelayThatIsClosedTakesNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRelay(newWire())
		if err := r.close(); err != nil {
			t.Fatal(err)
		}
		r.set(aToB, time.Second, 0) // and starts nothing
		if passed, dropped := r.counts(aToB); passed != 0 || dropped != 0 {
			t.Errorf("%d packets passed and %d were dropped", passed, dropped)
		}
	})
}

func FuzzAddresses(f *testing.F) {
	f.Add(datagram(a, b, 40, 1))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		from, to, ok := addresses(data)
		if ok != (from.IsValid() && to.IsValid()) || ok && len(data) < 20 {
			t.Errorf("%x: %s to %s, %v", data, from, to, ok)
		}
	})
}

package lab

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/grayfed/grayfed/chaos/guard"
)

const (
	tunDevice = "/dev/net/tun"
	// relayLink is the name of the relay's device in the router, relayTable the
	// routing table that leads there.
	relayLink  = "slow"
	relayTable = 77
	// relayQueue is how many packets one slow way holds (tc-netem's limit).
	relayQueue = 1000
	maxPacket  = 64 << 10
)

// relay holds packets up: it takes them from a device that the router sends
// them to, and gives them back when their time has come. TCP and UDP are slow
// alike, in one direction at a time.
type relay struct {
	device io.ReadWriteCloser

	mu     sync.Mutex
	ways   map[flow]*way // mu
	closed bool          // mu
	broken error         // mu; see failed
	ending chan struct{}
	wg     sync.WaitGroup
}

type flow struct{ from, to netip.Addr }

// way is a line that packets of one flow stand in.
type way struct {
	queue   chan packet
	carried atomic.Int64
	dropped atomic.Int64 // beyond the queue, or refused by the device

	mu    sync.Mutex
	delay time.Duration // mu
	rate  int64         // mu; bytes per second, 0: no limit
	free  time.Time     // mu; when the packets so far have been sent at that rate
}

type packet struct {
	due  time.Time
	data []byte
}

func newRelay(device io.ReadWriteCloser) *relay {
	return &relay{device: device, ways: make(map[flow]*way), ending: make(chan struct{})}
}

// openRelay makes the relay's device in the router's namespace.
func (n *network) openRelay(ctx context.Context) (*relay, error) {
	var device *os.File
	err := n.within(router, func() (err error) {
		device, err = openTUN(relayLink)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("make the device of slow links: %w", err)
	}
	err = ip(ctx, n.namespace(router), "link set "+relayLink+" up",
		fmt.Sprintf("route add default dev %s table %d", relayLink, relayTable))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("set up the device of slow links: %w", err), device.Close())
	}
	return newRelay(device), nil
}

// openTUN makes a device of IP packets in the calling thread's namespace. It is
// gone when the file is closed.
func openTUN(name string) (*os.File, error) {
	fd, err := unix.Open(tunDevice, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", tunDevice, err)
	}
	request, err := unix.NewIfreq(name)
	if err == nil {
		request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make device %s: %w", name, err), unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), tunDevice), nil
}

// set makes the packets of one flow slow from now on.
func (r *relay) set(key flow, delay time.Duration, rate int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	w := r.ways[key]
	if w == nil && !r.closed {
		w = &way{queue: make(chan packet, relayQueue)}
		r.ways[key] = w
		r.wg.Go(func() {
			err := guard.Do(func() error {
				r.release(w)
				return nil
			})
			r.broke(err)
		})
	}
	if w != nil {
		w.set(delay, rate)
	}
}

// broke notes why packets are not given back any more, unless err is nil.
func (r *relay) broke(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.broken = errors.Join(r.broken, err)
}

// failed is what broke was told.
func (r *relay) failed() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.broken
}

// counts are the packets of one flow so far.
func (r *relay) counts(key flow) (carried, dropped int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	w := r.ways[key]
	if w == nil {
		return 0, 0
	}
	return w.carried.Load(), w.dropped.Load()
}

// run takes packets in until the relay is closed.
func (r *relay) run() error {
	buffer := make([]byte, maxPacket)
	for {
		n, err := r.device.Read(buffer)
		if err != nil {
			select {
			case <-r.ending:
				return nil
			default:
				return fmt.Errorf("read packets of slow links: %w", err)
			}
		}
		r.take(buffer[:n])
	}
}

// take puts a packet in its line. The router sends IPv4 of slow ways alone;
// whatever else comes is not for anybody.
func (r *relay) take(data []byte) {
	from, to, ok := addresses(data)
	if !ok {
		return
	}
	r.mu.Lock()
	w := r.ways[flow{from, to}]
	r.mu.Unlock()
	if w != nil {
		w.push(time.Now(), data)
	}
}

// addresses are those of an IPv4 packet (RFC 791).
func addresses(data []byte) (from, to netip.Addr, ok bool) {
	if len(data) < 20 || data[0]>>4 != 4 || int(binary.BigEndian.Uint16(data[2:])) > len(data) {
		return from, to, false
	}
	return netip.AddrFrom4([4]byte(data[12:])), netip.AddrFrom4([4]byte(data[16:])), true
}

func (w *way) set(delay time.Duration, rate int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.delay, w.rate, w.free = delay, rate, time.Time{}
}

// push queues a copy of a packet, or drops it when the line is full. One
// goroutine pushes.
func (w *way) push(now time.Time, data []byte) {
	if len(w.queue) == cap(w.queue) {
		w.dropped.Add(1)
		return
	}
	w.queue <- packet{due: w.due(now, len(data)), data: append([]byte(nil), data...)}
}

// due is when a packet that comes now has been sent at the rate, and has
// travelled.
func (w *way) due(now time.Time, size int) time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.free.Before(now) {
		w.free = now
	}
	if w.rate > 0 {
		w.free = w.free.Add(time.Duration(int64(size) * int64(time.Second) / w.rate))
	}
	return w.free.Add(w.delay)
}

// release gives the packets of one line back in their order.
func (r *relay) release(w *way) {
	for {
		select {
		case <-r.ending:
			return
		case p := <-w.queue:
			if wait := time.Until(p.due); wait > 0 {
				select {
				case <-r.ending:
					return
				case <-time.After(wait):
				}
			}
			if _, err := r.device.Write(p.data); err != nil {
				w.dropped.Add(1)
				continue
			}
			w.carried.Add(1)
		}
	}
}

// close ends run and drops what is queued.
func (r *relay) close() error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	close(r.ending)
	err := r.device.Close()
	r.wg.Wait()
	return err
}

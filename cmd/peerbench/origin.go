package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Limits of one origin connection.
const (
	originReadSize = 64 << 10
	originMaxHead  = 64 << 10
	originMaxOut   = 16 << 20
)

// originMain serves one origin until it is killed. It prints its address on
// one line once it listens.
func originMain(args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet(originCommand, flag.ContinueOnError)
	release := flags.String("release", stableRelease, "the release this origin is")
	if err := flags.Parse(args); err != nil {
		return err
	}
	o, err := newOrigin(*release)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(stdout, o.addr); err != nil {
		return fmt.Errorf("print the address: %w", err)
	}
	return o.serve()
}

// origin is a keep-alive HTTP/1.1 server that costs as little as a process can
// reasonably cost: one thread, one epoll instance, one read and one write a
// wake-up, answers written beforehand. It must not be what limits a proxy.
type origin struct {
	responder
	addr     netip.AddrPort
	epoll    int
	listener int
	read     []byte
	conns    map[int]*originConn
}

type originConn struct {
	pending []byte // bytes of an unfinished request head
	out     []byte // bytes the socket did not take yet
	blocked bool   // epoll watches for writability
}

func newOrigin(release string) (*origin, error) {
	listener, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("create the listening socket: %w", err)
	}
	o := &origin{
		responder: newResponder(release),
		epoll:     -1,
		listener:  listener,
		read:      make([]byte, originReadSize),
		conns:     make(map[int]*originConn),
	}
	if err := o.listen(); err != nil {
		return nil, errors.Join(err, o.close())
	}
	return o, nil
}

func (o *origin) listen() error {
	if err := unix.Bind(o.listener, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return fmt.Errorf("bind to loopback: %w", err)
	}
	if err := unix.Listen(o.listener, 4096); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	bound, err := unix.Getsockname(o.listener)
	if err != nil {
		return fmt.Errorf("read the bound address: %w", err)
	}
	inet, ok := bound.(*unix.SockaddrInet4)
	if !ok {
		return fmt.Errorf("bound address is a %T, want IPv4", bound)
	}
	o.addr = netip.AddrPortFrom(netip.AddrFrom4(inet.Addr), uint16(inet.Port))
	if o.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return fmt.Errorf("create epoll: %w", err)
	}
	return o.control(unix.EPOLL_CTL_ADD, o.listener, unix.EPOLLIN)
}

func (o *origin) control(op, fd int, events uint32) error {
	if err := unix.EpollCtl(o.epoll, op, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)}); err != nil {
		return fmt.Errorf("epoll control of descriptor %d: %w", fd, err)
	}
	return nil
}

// close ends the listener and all connections. serve must not be running.
func (o *origin) close() error {
	for fd := range o.conns {
		o.drop(fd)
	}
	err := unix.Close(o.listener)
	if o.epoll >= 0 {
		err = errors.Join(err, unix.Close(o.epoll))
	}
	return err
}

// serve answers until epoll fails, which it does not in practice: an origin is
// ended by a signal.
func (o *origin) serve() error {
	events := make([]unix.EpollEvent, 256)
	for {
		n, err := unix.EpollWait(o.epoll, events, -1)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("wait for events: %w", err)
		}
		for _, event := range events[:n] {
			o.handle(int(event.Fd), event.Events)
		}
	}
}

func (o *origin) handle(fd int, events uint32) {
	if fd == o.listener {
		o.accept()
		return
	}
	conn, ok := o.conns[fd]
	if !ok {
		return
	}
	if events&unix.EPOLLOUT != 0 && !o.flush(fd, conn) {
		return
	}
	if events&(unix.EPOLLIN|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		o.readable(fd, conn)
	}
}

func (o *origin) accept() {
	for {
		fd, _, err := unix.Accept4(o.listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if err != nil {
			// EAGAIN ends the batch; anything else is the peer's trouble and is
			// retried with the next event, as the listener is level-triggered.
			return
		}
		if err := errors.Join(
			unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
			o.control(unix.EPOLL_CTL_ADD, fd, unix.EPOLLIN),
		); err != nil {
			_ = unix.Close(fd) // the peer sees a closed connection, which it counts
			continue
		}
		o.conns[fd] = &originConn{}
		o.accepted++
	}
}

func (o *origin) drop(fd int) {
	delete(o.conns, fd)
	_ = unix.Close(fd) // closing removes it from epoll; there is no one to tell of an error
}

func (o *origin) readable(fd int, conn *originConn) {
	n, err := unix.Read(fd, o.read)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
		return
	}
	if err != nil || n == 0 {
		o.drop(fd)
		return
	}
	in := o.read[:n]
	if len(conn.pending) > 0 {
		conn.pending = append(conn.pending, in...)
		in = conn.pending
	}
	out, rest, err := o.respond(conn.out, in)
	conn.out = out
	if err != nil || len(rest) > originMaxHead || len(conn.out) > originMaxOut {
		o.drop(fd)
		return
	}
	conn.pending = append(conn.pending[:0], rest...)
	o.flush(fd, conn)
}

// flush writes what is waiting, asks for the next chance when the socket is
// full, and says whether the connection still exists.
func (o *origin) flush(fd int, conn *originConn) bool {
	if len(conn.out) == 0 {
		return true
	}
	n, err := unix.Write(fd, conn.out)
	if err != nil && !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
		o.drop(fd)
		return false
	}
	want := uint32(unix.EPOLLIN)
	if n < len(conn.out) {
		want |= unix.EPOLLOUT
	}
	waited := conn.blocked
	conn.out = append(conn.out[:0], conn.out[max(n, 0):]...)
	conn.blocked = len(conn.out) > 0
	if waited != conn.blocked && o.control(unix.EPOLL_CTL_MOD, fd, want) != nil {
		o.drop(fd)
		return false
	}
	return true
}

// listenAddress parses the line an origin prints.
func listenAddress(line string) (netip.AddrPort, error) {
	addr, err := netip.ParseAddrPort(line)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("address of the origin: %w", err)
	}
	if !addr.Addr().IsLoopback() {
		return netip.AddrPort{}, fmt.Errorf("address of the origin: %s is not loopback", addr)
	}
	return addr, nil
}

package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"golang.org/x/sys/unix"
)

// openIdle opens connection number n and has one request answered on it. What
// it returns is the connection below TLS: nothing is said on it any more.
func openIdle(ctx context.Context, to entrance, n int) (_ net.Conn, err error) {
	dialer := net.Dialer{
		Timeout:   5 * time.Second,
		LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+n/idlePerSource))},
		// The kernel then chooses the port at connect, by the whole four-tuple.
		Control: func(_, _ string, raw syscall.RawConn) error {
			var option error
			err := raw.Control(func(fd uintptr) {
				option = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
			})
			return errors.Join(err, option)
		},
	}
	conn, err := dialer.DialContext(ctx, "tcp4", to.listen.String())
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = conn.Close() // its error would hide the first
		}
	}()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return nil, err
	}
	said := conn
	if to.speaks.TLS {
		session := tls.Client(conn, to.cert.client(to.speaks))
		if err := session.HandshakeContext(ctx); err != nil {
			return nil, fmt.Errorf("shake hands: %w", err)
		}
		said = session
	}
	ask := askIdle
	if to.speaks.HTTP2 {
		ask = askIdleHTTP2
	}
	if err := ask(said, to.speaks, fmt.Sprintf("%s%d", pathPrefix, n)); err != nil {
		return nil, err
	}
	return conn, conn.SetDeadline(time.Time{})
}

func askIdle(conn net.Conn, _ protocol, path string) error {
	if _, err := conn.Write(get(path, "")); err != nil {
		return err
	}
	response, err := http.ReadResponse(bufio.NewReaderSize(conn, 2048), nil)
	if err != nil {
		return fmt.Errorf("read the response: %w", err)
	}
	length, err := io.Copy(io.Discard, response.Body)
	if err = errors.Join(err, response.Body.Close()); err != nil {
		return fmt.Errorf("read the body: %w", err)
	}
	if response.StatusCode != http.StatusOK || length != bodySize {
		return fmt.Errorf("answered %s with %d bytes", response.Status, length)
	}
	return nil
}

func askIdleHTTP2(conn net.Conn, speaks protocol, path string) error {
	var head bytes.Buffer
	encoder := hpack.NewEncoder(&head)
	for _, field := range [][2]string{{":method", "GET"}, {":scheme", speaks.Scheme()}, {":authority", loadHost}, {":path", path}} {
		if err := encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]}); err != nil {
			return err
		}
	}
	frames := http2.NewFramer(conn, conn)
	frames.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		return err
	}
	if err := errors.Join(frames.WriteSettings(), frames.WriteHeaders(http2.HeadersFrameParam{
		StreamID: 1, BlockFragment: head.Bytes(), EndStream: true, EndHeaders: true,
	})); err != nil {
		return err
	}
	status, length := "", 0
	for ended := false; !ended; {
		frame, err := frames.ReadFrame()
		if err != nil {
			return fmt.Errorf("read the response: %w", err)
		}
		switch f := frame.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				if err := frames.WriteSettingsAck(); err != nil {
					return err
				}
			}
		case *http2.MetaHeadersFrame:
			status, ended = f.PseudoValue("status"), f.StreamEnded()
		case *http2.DataFrame:
			length, ended = length+len(f.Data()), f.StreamEnded()
		case *http2.RSTStreamFrame, *http2.GoAwayFrame:
			return fmt.Errorf("answered with %v", f)
		}
	}
	if status != "200" || length != bodySize {
		return fmt.Errorf("answered %s with %d bytes", status, length)
	}
	return nil
}

// stillOpen says whether the other side has kept an idle connection open. It
// looks for the end alone: there may be bytes of TLS or HTTP/2 that nobody read.
func stillOpen(conn net.Conn) (bool, error) {
	tcp, ok := conn.(syscall.Conn)
	if !ok {
		return false, fmt.Errorf("look at a connection: a %T has no descriptor", conn)
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return false, fmt.Errorf("look at a connection: %w", err)
	}
	var seen int16
	var looked error
	if err := raw.Control(func(fd uintptr) {
		look := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		_, looked = unix.Poll(look, 0)
		seen = look[0].Revents
	}); err != nil {
		return false, fmt.Errorf("look at a connection: %w", err)
	}
	if looked != nil {
		return false, fmt.Errorf("look at a connection: %w", looked)
	}
	return seen&(unix.POLLRDHUP|unix.POLLHUP|unix.POLLERR) == 0, nil
}

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// wire is one keep-alive client connection with one request at a time, without
// what net/http does around it: it is not to be what is measured.
type wire struct {
	to    netip.AddrPort
	limit time.Duration // for one request
	conn  net.Conn      // nil: to be opened
	in    *bufio.Reader
}

// wireAnswer is a response with its body read.
type wireAnswer struct {
	Status int
	Header http.Header
	Body   []byte
}

// ask sends a whole request and reads its response. It connects where there is
// no connection, and gives one up that failed; it never sends anything twice.
func (w *wire) ask(request []byte) (answer wireAnswer, err error) {
	if w.conn == nil {
		if w.conn, err = net.DialTimeout("tcp4", w.to.String(), w.limit); err != nil {
			return wireAnswer{}, err
		}
		w.in = bufio.NewReaderSize(w.conn, 4096)
	}
	keep := false
	defer func() {
		if err != nil || !keep {
			err = errors.Join(err, w.close())
		}
	}()
	if err := w.conn.SetDeadline(time.Now().Add(w.limit)); err != nil {
		return wireAnswer{}, err
	}
	if _, err := w.conn.Write(request); err != nil {
		return wireAnswer{}, err
	}
	response, err := http.ReadResponse(w.in, nil)
	if err != nil {
		return wireAnswer{}, fmt.Errorf("read the response: %w", err)
	}
	answer = wireAnswer{Status: response.StatusCode, Header: response.Header}
	answer.Body, err = io.ReadAll(io.LimitReader(response.Body, 64<<10))
	if err = errors.Join(err, response.Body.Close()); err != nil {
		return answer, fmt.Errorf("read the body: %w", err)
	}
	keep = !response.Close
	return answer, nil
}

func (w *wire) close() error {
	if w.conn == nil {
		return nil
	}
	err := w.conn.Close()
	w.conn = nil
	return err
}

// get makes the bytes of a request without a body.
func get(path, tag string) []byte {
	request := fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\n", path, loadHost)
	if tag != "" {
		request = fmt.Appendf(request, "%s: %s\r\n", tagHeader, tag)
	}
	return append(request, "\r\n"...)
}

// post makes the bytes of a request that must not be repeated.
func post(path, tag string) []byte {
	const body = `{"name":"x"}`
	return fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: %s\r\n%s: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		path, loadHost, tagHeader, tag, len(body), body)
}

// pause waits by the kernel's clock: the runtime's timers wait for whole
// milliseconds in a program that is idle otherwise.
func pause(d time.Duration) {
	if d <= 0 {
		return
	}
	rest := unix.NsecToTimespec(int64(d))
	_ = unix.Nanosleep(&rest, nil) // woken early by a signal: the caller looks at the clock anyway
}

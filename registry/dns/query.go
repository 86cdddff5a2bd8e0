package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// ask puts a question to the servers, one after the other, and follows aliases
// whose target was not in the answer.
func (c *resolvConf) ask(ctx context.Context, name string, family int) answer {
	ttl := maxTTL
	for range maxChain {
		parsed, err := dnsmessage.NewName(name)
		if err != nil {
			return answer{err: fmt.Errorf("resolve %q: %w", name, err)}
		}
		r, err := c.askServers(ctx, question{parsed, family})
		switch {
		case err != nil:
			return answer{err: err}
		case len(r.addrs) > 0:
			return answer{outcome: found, addrs: r.addrs, ttl: min(ttl, r.ttl)}
		case r.alias == "":
			return answer{outcome: absent, ttl: r.ttl}
		}
		name, ttl = r.alias, min(ttl, r.ttl)
	}
	return answer{err: fmt.Errorf("resolve %q: %w", name, errChain)}
}

// askServers tries each server up to the configured number of attempts.
func (c *resolvConf) askServers(ctx context.Context, q question) (reply, error) {
	var last error
	for range c.attempts {
		for _, server := range c.servers {
			r, err := exchange(ctx, "udp", server, q, c.timeout)
			if errors.Is(err, errTruncated) {
				r, err = exchange(ctx, "tcp", server, q, c.timeout)
			}
			if err == nil {
				return r, nil
			}
			last = fmt.Errorf("ask %s for %s of %s: %w", server, q.recordType().String()[len("Type"):], q.name, err)
			if ctx.Err() != nil {
				return reply{}, last
			}
		}
	}
	return reply{}, last
}

// exchange asks one server once. The socket is connected, from a port of the
// system's choice: the kernel drops what others send.
func exchange(ctx context.Context, network string, server netip.AddrPort, q question, timeout time.Duration) (reply, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, network, server.String())
	if err != nil {
		return reply{}, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) }) // ends reading and writing
	defer stop()

	id := uint16(rand.Uint32())
	message, err := q.pack(id)
	if err != nil {
		return reply{}, fmt.Errorf("pack the question: %w", err)
	}
	if network == "tcp" {
		return q.overTCP(conn, message, id)
	}
	if _, err := conn.Write(message[2:]); err != nil {
		return reply{}, err
	}
	buffer := make([]byte, udpSize)
	for {
		n, err := conn.Read(buffer)
		if err != nil {
			return reply{}, err
		}
		r, err := q.parse(buffer[:n], id)
		if errors.Is(err, errNotOurs) {
			continue // a late answer, or a guess
		}
		return r, err
	}
}

// overTCP sends the message, which has room for its length in front, and reads
// one answer.
func (q question) overTCP(conn net.Conn, message []byte, id uint16) (reply, error) {
	binary.BigEndian.PutUint16(message, uint16(len(message)-2))
	if _, err := conn.Write(message); err != nil {
		return reply{}, err
	}
	var length [2]byte
	if _, err := io.ReadFull(conn, length[:]); err != nil {
		return reply{}, err
	}
	buffer := make([]byte, binary.BigEndian.Uint16(length[:]))
	if _, err := io.ReadFull(conn, buffer); err != nil {
		return reply{}, err
	}
	return q.parse(buffer, id)
}

// routable reports whether this machine has a route to the address. Connecting
// a UDP socket sends nothing.
func routable(addr netip.Addr) bool {
	conn, err := net.Dial("udp", netip.AddrPortFrom(addr, 9).String())
	if err != nil {
		return false
	}
	return conn.Close() == nil
}

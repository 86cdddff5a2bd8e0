package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"net/url"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	// population is how many clients with a cache of their own the stream via
	// DNS stands for: one alone would send all to one edge at a time.
	population = 16
	// dnsSilence is how long one server is waited for before the next is asked.
	dnsSilence = 300 * time.Millisecond
)

// errNoDNS is what a client says that no server answers.
var errNoDNS = errors.New("no server answers")

// resolvers are the clients that go by DNS, in turn.
type resolvers struct {
	mu   sync.Mutex
	turn int
	all  []*resolver
}

// next is the index of the edge that the next client goes to.
func (r *resolvers) next(ctx context.Context) (edge int, err error) {
	r.mu.Lock()
	one := r.all[r.turn]
	r.turn = (r.turn + 1) % len(r.all)
	r.mu.Unlock()
	return one.edge(ctx)
}

// resolver is one client's, with its own cache. It honours the TTL, asks the
// next server when one is silent, and stays with one that answers.
type resolver struct {
	name    dnsmessage.Name
	servers []string
	edges   map[netip.Addr]int

	mu      sync.Mutex // held while it asks: the client's other requests wait, too
	server  int        // index of the one that answered last
	known   int        // edge
	expires time.Time
}

func newResolvers(t *Target) (*resolvers, error) {
	name, err := dnsmessage.NewName(withDot(t.DNS.Name))
	if err != nil {
		return nil, fmt.Errorf("DNS name %q: %w", t.DNS.Name, err)
	}
	edges, err := t.addresses()
	if err != nil {
		return nil, err
	}
	r := new(resolvers)
	for n := range population {
		r.all = append(r.all, &resolver{name: name, servers: t.DNS.Servers, edges: edges, server: n % len(t.DNS.Servers)})
	}
	return r, nil
}

func withDot(name string) string {
	if name == "" || name[len(name)-1] != '.' {
		return name + "."
	}
	return name
}

// addresses are the edges by what DNS answers for them.
func (t *Target) addresses() (map[netip.Addr]int, error) {
	all := make(map[netip.Addr]int)
	for n, e := range t.Edges {
		list := e.Addresses
		if len(list) == 0 {
			u, err := url.Parse(e.Data)
			if err != nil {
				return nil, fmt.Errorf("edge of %s: %w", e.Zone, err)
			}
			addr, err := netip.ParseAddr(u.Hostname())
			if err != nil {
				return nil, fmt.Errorf("edge of %s: its data URL has no IP address, so say in addresses what DNS answers for it", e.Zone)
			}
			list = []netip.Addr{addr}
		}
		for _, addr := range list {
			if other, taken := all[addr.Unmap()]; taken {
				return nil, fmt.Errorf("the edges of %s and %s have the same address %s, so DNS cannot tell them apart",
					t.Edges[other].Zone, e.Zone, addr)
			}
			all[addr.Unmap()] = n
		}
	}
	return all, nil
}

func (r *resolver) edge(ctx context.Context) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Now().Before(r.expires) {
		return r.known, nil
	}
	var last error
	for range r.servers {
		addr, ttl, err := r.ask(ctx, r.servers[r.server])
		if err == nil {
			edge, ok := r.edges[addr]
			if !ok {
				return 0, fmt.Errorf("answered %s, which is no edge of the target's", addr)
			}
			r.known, r.expires = edge, time.Now().Add(ttl)
			return edge, nil
		}
		last = err
		r.server = (r.server + 1) % len(r.servers)
	}
	return 0, last
}

// ask is one query for A, and for AAAA where there is no A.
func (r *resolver) ask(ctx context.Context, server string) (netip.Addr, time.Duration, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "udp", server)
	if err != nil {
		return netip.Addr{}, 0, errNoDNS
	}
	defer func() { _ = conn.Close() }() // a datagram socket
	if err := conn.SetDeadline(time.Now().Add(dnsSilence)); err != nil {
		return netip.Addr{}, 0, errNoDNS
	}
	for _, kind := range []dnsmessage.Type{dnsmessage.TypeA, dnsmessage.TypeAAAA} {
		addr, ttl, err := query(conn, r.name, kind)
		if err != nil || addr.IsValid() {
			return addr, ttl, err
		}
	}
	return netip.Addr{}, 0, errors.New("an empty answer")
}

// query returns the zero address for an answer without one.
func query(conn net.Conn, name dnsmessage.Name, kind dnsmessage.Type) (netip.Addr, time.Duration, error) {
	id := uint16(rand.Uint32())
	message := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: id, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: name, Type: kind, Class: dnsmessage.ClassINET}},
	}
	packed, err := message.Pack()
	if err != nil {
		return netip.Addr{}, 0, fmt.Errorf("make a query: %w", err)
	}
	if _, err := conn.Write(packed); err != nil {
		return netip.Addr{}, 0, errNoDNS
	}
	for buffer := make([]byte, 4096); ; {
		n, err := conn.Read(buffer)
		if err != nil {
			return netip.Addr{}, 0, errNoDNS
		}
		if answered, addr, ttl, err := readAnswer(buffer[:n], id); answered {
			return addr, ttl, err
		}
	}
}

// readAnswer takes the first address out of a response; answered is false for
// what is none to the query.
func readAnswer(data []byte, id uint16) (answered bool, addr netip.Addr, ttl time.Duration, err error) {
	var p dnsmessage.Parser
	if header, err := p.Start(data); err == nil && header.Response && header.ID == id {
		addr, ttl, err := firstAddress(&p, header.RCode)
		return true, addr, ttl, err
	}
	return false, addr, 0, nil
}

func firstAddress(p *dnsmessage.Parser, code dnsmessage.RCode) (addr netip.Addr, ttl time.Duration, err error) {
	if code != dnsmessage.RCodeSuccess {
		return addr, 0, fmt.Errorf("answered %s", code)
	}
	if err := p.SkipAllQuestions(); err != nil {
		return addr, 0, errors.New("an ill-formed answer")
	}
	for {
		resource, err := p.Answer()
		if errors.Is(err, dnsmessage.ErrSectionDone) {
			return addr, 0, nil
		}
		if err != nil {
			return addr, 0, errors.New("an ill-formed answer")
		}
		ttl := time.Duration(resource.Header.TTL) * time.Second
		switch body := resource.Body.(type) {
		case *dnsmessage.AResource:
			return netip.AddrFrom4(body.A), ttl, nil
		case *dnsmessage.AAAAResource:
			return netip.AddrFrom16(body.AAAA).Unmap(), ttl, nil
		}
	}
}

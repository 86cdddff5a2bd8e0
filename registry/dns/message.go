package dns

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	// udpSize is the size of answers we take by UDP: what passes without
	// fragments (DNS flag day 2020).
	udpSize = 1232
	// maxAddresses bounds what one name may bring; of more, the lowest count.
	maxAddresses = 256
	// maxChain bounds the aliases followed from a name.
	maxChain = 16
	maxTTL   = (1<<31 - 1) * time.Second // RFC 2181, section 8
)

var (
	// errNotOurs: the message answers another question; ours may follow.
	errNotOurs = errors.New("answer to another question")
	// errTruncated: the whole answer is to be had by TCP.
	errTruncated = errors.New("truncated answer")
	// errChain: the aliases of a name lead nowhere, perhaps in a circle.
	errChain = fmt.Errorf("more than %d aliases", maxChain)
)

// reply is what a server's answer says.
type reply struct {
	// addrs are sorted, none twice; none means that there are none, save that
	// alias then names where to ask on.
	addrs []netip.Addr
	ttl   time.Duration // lowest of what led here; of an absence 0 when not said
	alias string
}

// question asks for the addresses of a name.
type question struct {
	name   dnsmessage.Name
	family int
}

func (q question) recordType() dnsmessage.Type {
	if q.family == ipv6 {
		return dnsmessage.TypeAAAA
	}
	return dnsmessage.TypeA
}

// pack returns the message that asks, with room in front for TCP's length.
func (q question) pack(id uint16) ([]byte, error) {
	b := dnsmessage.NewBuilder(make([]byte, 2, 512), dnsmessage.Header{ID: id, RecursionDesired: true})
	var edns dnsmessage.ResourceHeader
	err := errors.Join(
		b.StartQuestions(),
		b.Question(dnsmessage.Question{Name: q.name, Type: q.recordType(), Class: dnsmessage.ClassINET}),
		b.StartAdditionals(),
		edns.SetEDNS0(udpSize, dnsmessage.RCodeSuccess, false),
		b.OPTResource(edns, dnsmessage.OPTResource{}),
	)
	if err != nil {
		return nil, err
	}
	return b.Finish()
}

// parse reads the answer to q. It returns [errNotOurs] for what may be
// somebody else's, and otherwise an error when the server has no answer that
// could be gone by.
func (q question) parse(message []byte, id uint16) (reply, error) {
	var p dnsmessage.Parser
	header, err := p.Start(message)
	if err != nil || !header.Response || header.ID != id {
		return reply{}, errNotOurs
	}
	asked, err := p.Question()
	if err != nil || asked.Type != q.recordType() || asked.Class != dnsmessage.ClassINET || !sameName(asked.Name, q.name) {
		return reply{}, errNotOurs
	}
	if header.Truncated {
		return reply{}, errTruncated
	}
	if header.RCode != dnsmessage.RCodeSuccess && header.RCode != dnsmessage.RCodeNameError {
		return reply{}, fmt.Errorf("server answered %s", strings.TrimPrefix(header.RCode.String(), "RCode"))
	}
	if err := p.SkipAllQuestions(); err != nil {
		return reply{}, fmt.Errorf("parse questions: %w", err)
	}
	records, err := q.answers(&p)
	if err != nil {
		return reply{}, err
	}
	out, last, err := records.follow(q.name)
	if err != nil || len(out.addrs) > 0 {
		return out, err
	}
	negative, stated, err := negativeTTL(&p)
	if err != nil {
		return reply{}, err
	}
	switch {
	case header.RCode == dnsmessage.RCodeNameError, stated:
		return reply{ttl: negative}, nil
	case last != canonical(q.name):
		return reply{alias: last, ttl: out.ttl}, nil
	case !header.Authoritative && !header.RecursionAvailable:
		return reply{}, errors.New("server refers to others")
	}
	return reply{}, nil
}

// records are those of an answer that matter, by owner.
type records struct {
	addrs   map[string][]address
	aliases map[string]alias
}

type address struct {
	addr netip.Addr
	ttl  time.Duration
}

type alias struct {
	target string
	ttl    time.Duration
}

func (q question) answers(p *dnsmessage.Parser) (records, error) {
	out := records{addrs: make(map[string][]address), aliases: make(map[string]alias)}
	for {
		header, err := p.AnswerHeader()
		if errors.Is(err, dnsmessage.ErrSectionDone) {
			return out, nil
		}
		if err != nil {
			return out, fmt.Errorf("parse answers: %w", err)
		}
		owner, ttl := canonical(header.Name), seconds(header.TTL)
		switch {
		case header.Class != dnsmessage.ClassINET:
			err = p.SkipAnswer()
		case header.Type == dnsmessage.TypeCNAME:
			var r dnsmessage.CNAMEResource
			r, err = p.CNAMEResource()
			out.aliases[owner] = alias{canonical(r.CNAME), ttl}
		case header.Type == dnsmessage.TypeA && q.family == ipv4:
			var r dnsmessage.AResource
			r, err = p.AResource()
			out.addrs[owner] = append(out.addrs[owner], address{netip.AddrFrom4(r.A), ttl})
		case header.Type == dnsmessage.TypeAAAA && q.family == ipv6:
			var r dnsmessage.AAAAResource
			r, err = p.AAAAResource()
			out.addrs[owner] = append(out.addrs[owner], address{netip.AddrFrom16(r.AAAA).Unmap(), ttl})
		default:
			err = p.SkipAnswer()
		}
		if err != nil {
			return out, fmt.Errorf("parse answers: %w", err)
		}
	}
}

// follow goes from a name along its aliases to addresses, and returns where it
// ended.
func (r records) follow(name dnsmessage.Name) (out reply, last string, err error) {
	last, out.ttl = canonical(name), maxTTL
	for range maxChain {
		if addrs := r.addrs[last]; len(addrs) > 0 {
			for _, a := range addrs {
				out.addrs = append(out.addrs, a.addr)
				out.ttl = min(out.ttl, a.ttl)
			}
			out.addrs = sorted(out.addrs)
			return out, last, nil
		}
		next, more := r.aliases[last]
		if !more {
			return out, last, nil
		}
		last, out.ttl = next.target, min(out.ttl, next.ttl)
	}
	return reply{}, last, errChain
}

// sorted sorts addresses, drops doubles and, of too many, the highest.
func sorted(addrs []netip.Addr) []netip.Addr {
	slices.SortFunc(addrs, netip.Addr.Compare)
	addrs = slices.Compact(addrs)
	return addrs[:min(len(addrs), maxAddresses)]
}

// negativeTTL reads how long an absence counts from the zone's SOA record, as
// RFC 2308, section 5, says; stated is false when there is none.
func negativeTTL(p *dnsmessage.Parser) (ttl time.Duration, stated bool, err error) {
	for {
		header, err := p.AuthorityHeader()
		if errors.Is(err, dnsmessage.ErrSectionDone) {
			return 0, false, nil
		}
		if err == nil && header.Type == dnsmessage.TypeSOA {
			soa, err := p.SOAResource()
			if err != nil {
				return 0, false, fmt.Errorf("parse authorities: %w", err)
			}
			return min(seconds(header.TTL), seconds(soa.MinTTL)), true, nil
		}
		if err == nil {
			err = p.SkipAuthority()
		}
		if err != nil {
			return 0, false, fmt.Errorf("parse authorities: %w", err)
		}
	}
}

// seconds is a TTL; one with the highest bit set counts as 0 (RFC 2181,
// section 8).
func seconds(ttl uint32) time.Duration {
	if d := time.Duration(ttl) * time.Second; d <= maxTTL {
		return d
	}
	return 0
}

func canonical(name dnsmessage.Name) string { return strings.ToLower(name.String()) }

func sameName(a, b dnsmessage.Name) bool { return canonical(a) == canonical(b) }

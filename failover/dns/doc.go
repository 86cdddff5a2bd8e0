// Package dns answers where the federation's clients find an edge: A and AAAA
// of gateway.<domain>, one edge an answer, picked by weight, and SRV of
// _http._tcp.gateway.<domain> with all of them. Consul's own A answers ignore
// weights, and a resolver between it and the client would not know that an
// edge is dead while Consul has no leader; this package answers what
// [failover.Answer] made of Consul, gossip and probes, handed over by
// [Server.Set].
//
// # Names
//
// The server holds two zones, so that either can be delegated to it: <domain>
// and, below it, gateway.<domain>. Both have SOA and NS records at their apex.
//
//	gateway.<domain>                A, AAAA: the addresses of one edge, by weight
//	_http._tcp.gateway.<domain>     SRV: all edges with weights, addresses beside them
//	_https._tcp.gateway.<domain>    the same, where the edges' ports speak TLS
//	<host>.gateway.<domain>         A, AAAA of one edge: the targets of SRV
//	<nameserver>                    where it lies in <domain>: A, AAAA of all edges
//
// An edge's host is its id, where that is a host name's label in lower case,
// else "edge-" and a hash of it, so that all edges' servers agree.
//
// # Delegation
//
// Every edge runs this server, and all of them belong into the delegation, so
// that a dead one costs a resolver one timeout and no answer. With the parent
// zone at any provider and an address per edge that does not change:
//
//	; in the zone example.com, with domain: example.com
//	ns-az1    3600 IN A  203.0.113.5
//	ns-az2    3600 IN A  203.0.113.21
//	ns-az3    3600 IN A  203.0.113.37
//	gateway   3600 IN NS ns-az1.example.com.
//	gateway   3600 IN NS ns-az2.example.com.
//	gateway   3600 IN NS ns-az3.example.com.
//
// and `nameservers` in the edges' configuration with the same three names,
// because a resolver believes the zone's own NS records over its parent's. Then
// only gateway.example.com and what is below it is asked here. A whole
// subdomain can be delegated instead (domain: fed.example.com, `fed IN NS ...`,
// clients use gateway.fed.example.com). Names outside <domain> keep their
// addresses when all edges are replaced; for names inside <domain> (and the
// default ns.<domain>) the parent needs glue, and this server answers the
// addresses of the edges it knows. Resolvers ask on port 53: listen there, or
// redirect it.
//
// # Resolvers
//
// A change reaches clients after the TTL at most, for resolvers that keep to
// it. Not all do: many raise a TTL of 0 or 1 s to a floor of their own, the JVM
// keeps addresses for 30 s (networkaddress.cache.ttl), and browsers for about a
// minute. Absences are kept for the same TTL (RFC 2308). While nothing that is
// in is known, answers are a last resort and have a TTL of 0, so that a standby
// which goes in is seen at once. When one server is silent or says SERVFAIL or
// REFUSED, resolvers ask the next. Clients with many addresses in one answer
// take them in an order of their own (RFC 6724), which is why an answer has one
// edge. A and AAAA are picked each by itself, among the edges that have such an
// address; clients with both mostly take IPv6: give it to all edges or to none,
// or those that have it get more than their weight.
//
// # What is answered otherwise
//
// A type that a name does not have: NOERROR with SOA; never without, which
// nobody may keep (RFC 2308, 5) and many take for a lame server's. So is AAAA
// where the edges answered have IPv4 alone, and A where they have IPv6 alone: an
// error instead would have resolvers and clients give up the addresses that
// there are (RFC 4074). A name that is not there: NXDOMAIN with SOA. Names
// outside <domain>, classes other than IN, zone transfers: REFUSED. No edge known
// at all: SERVFAIL, never an answer without addresses. ANY: one of the name's
// record sets (RFC 8482, 4.1). Other operations than queries: NOTIMP.
// Unreadable: FORMERR. EDNS of another version: BADVERS. By UDP an answer has at
// most what the client takes and 1232 bytes (so that it is not fragmented); what
// does not fit is marked truncated and had by TCP. No recursion, no DNSSEC, and no
// limit to how often an address is answered: it can be forged, and a limit would
// fail a resolver behind which thousands of clients are.
//
// # How it answers
//
// Records are packed by github.com/miekg/dns when [Server.Set] hands over what
// changed. Messages are read in place and answered by a choice and a copy: the
// library's server would unpack each into records, in a goroutine of its own,
// as many as come. The loop here is about twice as fast as a responder on that
// server with a fixed answer (BenchmarkAgainstBare), and a flood has nothing to
// fill.
package dns

package certs

import (
	"crypto/tls"
	"crypto/x509"
	"slices"
	"strings"
)

// names finds a certificate by the name that a client asks for. It is
// immutable.
type names struct {
	// byName is by DNS name in lower case, exact or "*.example.com". Of one
	// name those with an elliptic curve come first: they cost the server a
	// fraction of an RSA signature.
	byName map[string][]*tls.Certificate
	// fallback is for clients that send no name or an unknown one.
	fallback []*tls.Certificate
}

// newNames indexes certificates; the first one, and those for the same name
// with another kind of key, are the default.
func newNames(certificates []*tls.Certificate) *names {
	n := &names{byName: make(map[string][]*tls.Certificate)}
	for _, certificate := range certificates {
		for _, name := range certificate.Leaf.DNSNames {
			name = strings.ToLower(name)
			n.byName[name] = append(n.byName[name], certificate)
		}
	}
	for _, list := range n.byName {
		slices.SortStableFunc(list, func(a, b *tls.Certificate) int { return keyRank(a) - keyRank(b) })
	}
	n.fallback = certificates[:1]
	if own := certificates[0].Leaf.DNSNames; len(own) > 0 {
		n.fallback = n.byName[strings.ToLower(own[0])]
	}
	return n
}

func keyRank(c *tls.Certificate) int {
	if c.Leaf.PublicKeyAlgorithm == x509.RSA {
		return 1
	}
	return 0
}

// pick returns the certificate for a client: for its very name, else for the
// wildcard above it, else the default.
func (n *names) pick(hello *tls.ClientHelloInfo) *tls.Certificate {
	name := strings.ToLower(strings.TrimSuffix(hello.ServerName, "."))
	list := n.byName[name]
	if dot := strings.IndexByte(name, '.'); list == nil && dot > 0 {
		list = n.byName["*"+name[dot:]]
	}
	if list == nil {
		list = n.fallback
	}
	if len(list) > 1 {
		// The name has been judged; what counts now is which keys the client
		// can verify.
		nameless := *hello
		nameless.ServerName = ""
		for _, certificate := range list {
			if nameless.SupportsCertificate(certificate) == nil {
				return certificate
			}
		}
	}
	return list[0] // if the client cannot verify it, the handshake says so
}

package certs

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"sync/atomic"
)

// Pair names the PEM files of a certificate, with its chain behind it, and of
// its key.
type Pair struct {
	CertFile string
	KeyFile  string
}

// pair is a certificate that is kept up to date.
type pair struct {
	source[*tls.Certificate]
	// notAfter is the certificate's, in Unix seconds.
	notAfter atomic.Int64
}

func newPair(p Pair) *pair {
	return &pair{source: source[*tls.Certificate]{
		files: []string{p.CertFile, p.KeyFile},
		parse: func(contents [][]byte) (*tls.Certificate, error) {
			certificate, err := tls.X509KeyPair(contents[0], contents[1])
			if err != nil {
				return nil, fmt.Errorf("certificate %s with key %s: %w", p.CertFile, p.KeyFile, err)
			}
			return &certificate, nil
		},
	}}
}

// taken notes what the certificate that is in use says of itself.
func (p *pair) taken() { p.notAfter.Store(p.value.Leaf.NotAfter.Unix()) }

// newAuthorities is a CA file that is kept up to date.
func newAuthorities(file string) *source[*x509.CertPool] {
	return &source[*x509.CertPool]{
		files: []string{file},
		parse: func(contents [][]byte) (*x509.CertPool, error) {
			pool := x509.NewCertPool()
			if !pool.AppendCertsFromPEM(contents[0]) {
				return nil, fmt.Errorf("certificate authorities %s: %w", file, errNoCertificate)
			}
			return pool, nil
		},
	}
}

var errNoCertificate = errors.New("the file holds no PEM certificate")

package certs

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"
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
	// refused is the failure of the last look, for those who ask meanwhile.
	refused atomic.Pointer[string]
	now     func() time.Time
}

// newPair is judged by the clock now; nil: time.Now.
func newPair(files Pair, now func() time.Time) *pair {
	if now == nil {
		now = time.Now
	}
	p := &pair{now: now, source: source[*tls.Certificate]{
		files: []string{files.CertFile, files.KeyFile},
		parse: func(contents [][]byte) (*tls.Certificate, error) {
			certificate, err := tls.X509KeyPair(contents[0], contents[1])
			if err != nil {
				return nil, fmt.Errorf("certificate %s with key %s: %w", files.CertFile, files.KeyFile, err)
			}
			return &certificate, nil
		},
	}}
	p.refuse = p.worse
	return p
}

// worse says why next is of less use than value: nobody connects by a
// certificate out of its time. Where both are out of it, the one that lasts
// longer is better: those whose clocks differ may yet take it.
func (p *pair) worse(next, value *tls.Certificate) error {
	doubt := p.doubt(next)
	if doubt == nil || p.doubt(value) != nil && !next.Leaf.NotAfter.Before(value.Leaf.NotAfter) {
		return nil
	}
	return doubt
}

// doubt is why a certificate is not valid now.
func (p *pair) doubt(c *tls.Certificate) error {
	switch now := p.now(); {
	case now.Before(c.Leaf.NotBefore):
		return fmt.Errorf("certificate %s is not valid before %s", p.files[0], c.Leaf.NotBefore.Format(time.RFC3339))
	case now.After(c.Leaf.NotAfter):
		return fmt.Errorf("certificate %s has expired at %s", p.files[0], c.Leaf.NotAfter.Format(time.RFC3339))
	}
	return nil
}

// warn says that what has been put in force is not valid: there is no better.
func (p *pair) warn(log *slog.Logger, name string) {
	if err := p.doubt(p.value); err != nil {
		log.Warn("a certificate in use is not valid now", "name", name, "error", err)
	}
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

package admin

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
)

// certificate is the server's own, read again when its files change.
type certificate struct {
	certFile, keyFile string
	log               *slog.Logger
	current           atomic.Pointer[tls.Certificate]
	cert, key         []byte // what was read last; of New, then of the one reloading goroutine
}

func openCertificate(certFile, keyFile string, log *slog.Logger) (*certificate, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile, log: log}
	if _, err := c.load(); err != nil {
		return nil, err
	}
	return c, nil
}

// reload takes what has changed. Halfway through a change the two files do not
// fit; then the old pair stays until they do.
func (c *certificate) reload() {
	changed, err := c.load()
	switch {
	case err != nil && changed:
		c.log.Error("certificate is not reloaded", "error", err)
	case changed:
		c.log.Info("certificate reloaded", "file", c.certFile)
	}
}

// load reports whether the files differ from what was read before.
func (c *certificate) load() (changed bool, err error) {
	cert, certErr := os.ReadFile(c.certFile)
	key, keyErr := os.ReadFile(c.keyFile)
	changed = !bytes.Equal(cert, c.cert) || !bytes.Equal(key, c.key)
	c.cert, c.key = cert, key
	for _, err := range []error{certErr, keyErr} {
		if err != nil {
			return changed, fmt.Errorf("admin certificate: %w", err)
		}
	}
	if !changed {
		return false, nil
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return true, fmt.Errorf("admin certificate %s with key %s: %w", c.certFile, c.keyFile, err)
	}
	c.current.Store(&pair)
	return true, nil
}

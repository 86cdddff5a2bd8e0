package api

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"
)

// UnreachableError says that an edge could not be asked, or broke off or kept
// silent in the middle of it: then a write may or may not have happened.
type UnreachableError struct {
	URL     string        // of the edge
	Timeout time.Duration // of the call
	Err     error
}

// Unwrap returns what went wrong.
func (e *UnreachableError) Unwrap() error { return e.Err }

// Error names the edge and what to do.
func (e *UnreachableError) Error() string {
	return fmt.Sprintf("edge %s: %s", e.URL, e.advice())
}

func (e *UnreachableError) advice() string {
	var (
		certificate *tls.CertificateVerificationError
		notTLS      tls.RecordHeaderError
		unknownHost *net.DNSError
	)
	switch {
	case errors.Is(e.Err, syscall.ECONNREFUSED):
		return "connection refused: is the edge running? Its admin.address must be this one"
	case errors.As(e.Err, &certificate):
		return fmt.Sprintf("its certificate is not trusted: name the CA that signed it (%v)", certificate.Err)
	case errors.As(e.Err, &notTLS), errors.Is(e.Err, http.ErrSchemeMismatch):
		return "it does not speak TLS: use http:// instead of https://"
	case errors.As(e.Err, &unknownHost):
		return fmt.Sprintf("its host name is not known: %v", unknownHost)
	case errors.Is(e.Err, context.DeadlineExceeded), errors.Is(e.Err, os.ErrDeadlineExceeded):
		return fmt.Sprintf("no answer within %s: is it overloaded, or is the network in between down?", e.Timeout)
	}
	return e.Err.Error()
}

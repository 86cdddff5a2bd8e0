package fault

import (
	"context"
	"time"
)

// newCertificateExpired gives edges a certificate that has expired, which they
// are not to put in place of a valid one. Mended, they get a new one: the old
// one's key is not kept, as at a renewal.
func newCertificateExpired(spec Spec, target any) (Fault, error) {
	certificates, err := need[Certificates](target, "certificates that it can issue")
	if err != nil {
		return nil, err
	}
	named, err := zones(spec.Zones, target)
	if err != nil {
		return nil, err
	}
	return &plan{what: "expired certificate at " + list(named), do: func(_ context.Context, u *undo) error {
		for _, zone := range named {
			// Before the call, which may have done it and yet fail.
			u.push("renew the certificate of "+zone, func(context.Context) error {
				now := time.Now()
				return certificates.IssueCertificate(zone, now.Add(-time.Hour), now.Add(30*24*time.Hour))
			})
			now := time.Now()
			if err := certificates.IssueCertificate(zone, now.Add(-48*time.Hour), now.Add(-time.Hour)); err != nil {
				return err
			}
		}
		return nil
	}}, nil
}

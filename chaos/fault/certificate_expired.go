package fault

import (
	"context"
	"errors"
	"time"

	"github.com/grayfed/grayfed/edge/api"
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
	do := func(_ context.Context, u *undo) error {
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
	}
	return &plan{what: "expired certificate at " + list(named), do: do, effect: onEdges(target, named, keepsValid)}, nil
}

// keepsValid reports an edge that has not noticed a certificate that is of no
// use, or has none that is in its place.
func keepsValid(said *api.Federation) error {
	for _, c := range said.Certificates {
		if c.Error != "" && c.NotAfter.After(time.Now()) {
			return nil
		}
	}
	return errors.New("it has not refused the expired certificate and kept one that is valid")
}

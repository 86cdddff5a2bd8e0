package fault

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"
)

// zoneMeans records what is asked of a zone's certificate and instances, which
// the lab has, and has real files.
type zoneMeans struct {
	documents, clock string
	calls            []string
	fail             map[string]error
}

var (
	_ Documents    = (*zoneMeans)(nil)
	_ Clocks       = (*zoneMeans)(nil)
	_ Certificates = (*zoneMeans)(nil)
	_ Behaving     = (*zoneMeans)(nil)
)

func (z *zoneMeans) asked() []string {
	calls := z.calls
	z.calls = nil
	return calls
}

func (z *zoneMeans) Documents(string) string { return z.documents }
func (z *zoneMeans) ClockFile(string) string { return z.clock }

func (z *zoneMeans) note(what string) error {
	z.calls = append(z.calls, what)
	return z.fail[what]
}

func (z *zoneMeans) IssueCertificate(zone string, notBefore, notAfter time.Time) error {
	now := time.Now()
	switch {
	case notBefore.After(now) || !notBefore.Before(notAfter):
		return z.note("ill-formed " + zone)
	case notAfter.Before(now):
		return z.note("expired " + zone)
	}
	return z.note("good " + zone)
}

func (z *zoneMeans) Behave(_ context.Context, part string, percent int, delay time.Duration) error {
	return z.note(fmt.Sprintf("%s %d %s", part, percent, delay))
}

// TestCertificateExpired: expired, then good again, also where issuing failed.
func TestCertificateExpired(t *testing.T) {
	m := newMachine(t, "az1/edge", "az2/edge")
	z := &zoneMeans{}
	f := create(t, Spec{Kind: "certificate-expired", Zones: []string{"*"}}, whole{machine: m, zoneMeans: z})
	broken(t, f)
	same(t, "issued", z.asked(), []string{"expired az1", "expired az2"})
	mended(t, f)
	same(t, "issued to mend", z.asked(), []string{"good az2", "good az1"})
	z.fail = map[string]error{"expired az1": errors.New("disk full")}
	if err := f.Break(limited(t)); !errors.Is(err, z.fail["expired az1"]) {
		t.Errorf("break: %v", err)
	}
	mended(t, f)
	if calls := z.asked(); !slices.Contains(calls, "good az1") || slices.Contains(calls, "good az2") {
		t.Errorf("issued %q", calls)
	}
}

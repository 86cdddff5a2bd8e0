package certs

import (
	"bytes"
	"crypto/tls"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// keeper is what keeps one pair: a listener's store, or a client.
type keeper struct {
	settle func()
	serial func() int64 // of the certificate in force
}

type keep func(t *testing.T, files Pair, now func() time.Time, reg prometheus.Registerer, log *slog.Logger) keeper

// aged is for files that were last written long ago, whose content is not read
// again when time passes.
func aged(start keep) keep {
	return func(t *testing.T, files Pair, now func() time.Time, reg prometheus.Registerer, log *slog.Logger) keeper {
		k := start(t, files, now, reg, log)
		settle := k.settle
		k.settle = func() {
			at := time.Now().Add(-time.Minute)
			for _, file := range []string{files.CertFile, files.KeyFile} {
				if info, err := os.Stat(file); err != nil || info.ModTime().Before(at.Add(time.Second)) {
					continue
				}
				if err := os.Chtimes(file, at, at); err != nil {
					t.Fatal(err)
				}
			}
			settle()
		}
		return k
	}
}

func keepStore(t *testing.T, files Pair, now func() time.Time, reg prometheus.Registerer, log *slog.Logger) keeper {
	s := newStore(t, Options{Name: "kept", Pairs: []Pair{files}, Now: now, Registerer: reg, Log: log})
	return keeper{func() { settle(s) }, func() int64 {
		_, state, err := shake(t, s.Config(), &tls.Config{ServerName: "x.test", InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		return state.PeerCertificates[0].SerialNumber.Int64()
	}}
}

func keepClient(t *testing.T, files Pair, now func() time.Time, reg prometheus.Registerer, log *slog.Logger) keeper {
	c, err := NewClient(ClientOptions{Name: "kept", Pair: files, Now: now, Registerer: reg, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	return keeper{func() { clientSettle(c) }, func() int64 {
		shown, err := c.Config("x.test").GetClientCertificate(nil)
		if err != nil {
			t.Fatal(err)
		}
		return shown.Leaf.SerialNumber.Int64()
	}}
}

// TestCertificateOutOfItsTime: it takes no valid one's place, until time has
// made it the better one; where there is no better, it is taken.
func TestCertificateOutOfItsTime(t *testing.T) {
	type span struct{ from, until int } // hours from now
	for what, c := range map[string]struct {
		inForce, next span
		later         int // hours that pass after the change
		taken         bool
		refused       float64 // reloads
		warnings      int
	}{
		"valid for valid":                    {inForce: span{-1, 5}, next: span{-1, 2}, taken: true},
		"expired for valid":                  {inForce: span{-1, 5}, next: span{-9, -1}, refused: 1},
		"future for valid":                   {inForce: span{-1, 5}, next: span{1, 9}, refused: 1},
		"future for valid, in its time":      {inForce: span{-1, 5}, next: span{1, 9}, later: 2, taken: true, refused: 1},
		"future for valid, that expires":     {inForce: span{-1, 5}, next: span{7, 9}, later: 6, taken: true, refused: 1, warnings: 1},
		"expired for valid, that expires":    {inForce: span{-1, 5}, next: span{-9, -1}, later: 6, refused: 1},
		"valid for expired":                  {inForce: span{-9, -2}, next: span{-1, 5}, taken: true, warnings: 1},
		"future for expired":                 {inForce: span{-9, -2}, next: span{1, 5}, taken: true, warnings: 2},
		"expired for longer expired":         {inForce: span{-9, -2}, next: span{-9, -1}, taken: true, warnings: 2},
		"longer expired for expired":         {inForce: span{-9, -2}, next: span{-9, -3}, refused: 1, warnings: 1},
		"expired for future":                 {inForce: span{1, 5}, next: span{-9, -1}, refused: 1, warnings: 1},
		"valid for future, though for less":  {inForce: span{1, 5}, next: span{-1, 2}, taken: true, warnings: 1},
		"sooner future for future, refused":  {inForce: span{3, 9}, next: span{1, 5}, refused: 1, warnings: 1},
		"sooner future for future, it comes": {inForce: span{3, 9}, next: span{1, 5}, later: 2, taken: true, refused: 1, warnings: 1},
	} {
		for kept, start := range map[string]keep{
			"listener": keepStore, "client": keepClient, "listener of old files": aged(keepStore), "client of old files": aged(keepClient),
		} {
			t.Run(what+"/"+kept, func(t *testing.T) {
				a, dir, base := newAuthority(t, "ca"), t.TempDir(), time.Now()
				issue := func(serial int64, s span) Pair {
					hours := func(n int) time.Time { return base.Add(time.Duration(n) * time.Hour) }
					return a.issueFor(serial, hours(s.from), hours(s.until), ellipticKey(t), "x.test").write(t, dir, "x")
				}
				var lines bytes.Buffer
				now, reg := base, prometheus.NewRegistry()
				k := start(t, issue(1, c.inForce), func() time.Time { return now }, reg, slog.New(slog.NewTextHandler(&lines, nil)))
				if got := k.serial(); got != 1 {
					t.Fatalf("at first certificate %d is in force", got)
				}
				issue(2, c.next)
				for range 3 {
					k.settle()
				}
				now = base.Add(time.Duration(c.later) * time.Hour)
				for range 3 {
					k.settle()
				}
				want, span, applied, stale := int64(1), c.inForce, 0.0, 1.0
				if c.taken {
					want, span, applied, stale = 2, c.next, 1, 0
				}
				if got := k.serial(); got != want {
					t.Errorf("certificate %d is in force, want %d", got, want)
				}
				expiry := base.Add(time.Duration(span.until) * time.Hour).Unix()
				if got := gathered(t, reg, "grayfed_certificate_expiry_seconds", "name", "kept"); got != float64(expiry) {
					t.Errorf("expiry %f, want %d", got, expiry)
				}
				for result, want := range map[string]float64{"applied": applied, "refused": c.refused} {
					if got := gathered(t, reg, "grayfed_certificate_reloads_total", "result", result); got != want {
						t.Errorf("%f reloads %s, want %f", got, result, want)
					}
				}
				if got := gathered(t, reg, "grayfed_certificates_stale", "name", "kept"); got != stale {
					t.Errorf("%f are stale, want %f", got, stale)
				}
				errors, warnings := strings.Count(lines.String(), "level=ERROR"), strings.Count(lines.String(), "level=WARN")
				if errors != int(c.refused) || warnings != c.warnings {
					t.Errorf("%d errors and %d warnings, want %f and %d:\n%s", errors, warnings, c.refused, c.warnings, &lines)
				}
			})
		}
	}
}

// TestRefusedCertificateIsForgotten: what is no longer there is not taken, and
// the one in force may be put back.
func TestRefusedCertificateIsForgotten(t *testing.T) {
	a, dir, now := newAuthority(t, "ca"), t.TempDir(), time.Now()
	good := a.issue(1, ellipticKey(t), "x.test")
	files := good.write(t, dir, "x")
	reg := prometheus.NewRegistry()
	s := newStore(t, Options{Name: "kept", Pairs: []Pair{files}, Now: func() time.Time { return now }, Registerer: reg})
	status := func(refused string) {
		t.Helper()
		got := s.Status()
		if len(got) != 1 || got[0].CertFile != files.CertFile || !got[0].NotAfter.Equal(good.notAfter.Truncate(time.Second)) ||
			!strings.Contains(got[0].Refused, refused) || refused == "" && got[0].Refused != "" {
			t.Errorf("status %+v, want one that is refused for %q", got, refused)
		}
	}
	status("")
	a.issueFor(2, now.Add(time.Minute), now.Add(time.Hour), ellipticKey(t), "x.test").write(t, dir, "x")
	settle(s)
	status("is not valid before")
	replace(t, files.CertFile, []byte("nothing"))
	settle(s)
	status(files.CertFile)
	now = now.Add(2 * time.Minute)
	settle(s)
	if got := serial(t, s, a); got != 1 {
		t.Errorf("certificate %d is served, whose file is gone", got)
	}
	good.write(t, dir, "x")
	settle(s)
	if got := gathered(t, reg, "grayfed_certificates_stale", "name", "kept"); got != 0 || serial(t, s, a) != 1 {
		t.Errorf("put back: %f are stale", got)
	}
	status("")
}

package health

import (
	"testing"
	"time"
)

func TestRepeatedEjectionsLastLonger(t *testing.T) {
	o := Options{}.withDefaults()
	var s state
	now := moment(time.Hour)
	for n, want := range []time.Duration{30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300} {
		s.eject(causeGateway, &o.Ejection, now)
		if got := s.until.sub(now); got != want*time.Second {
			t.Errorf("ejection %d lasts %s, want %ds", n+1, got, want)
		}
		now = s.until
		s.recover(&o.Recovery, now)
	}
	// 11 ejections less 4 that are forgiven, and one more.
	now = now.add(4 * o.Ejection.Base)
	s.eject(causeGateway, &o.Ejection, now)
	if got := s.until.sub(now); got != 8*30*time.Second {
		t.Errorf("after four quiet periods: %s", got)
	}
	s.eject(causeGateway, &o.Ejection, now.add(24*time.Hour))
	if got := s.until.sub(now.add(24 * time.Hour)); got != 30*time.Second {
		t.Errorf("after a quiet day: %s", got)
	}
}

package chaos

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/grayfed/grayfed/chaos/report"
)

// standing is a terminal that stands still from the nth write on, until it is
// released.
type standing struct {
	from     int
	released chan struct{}
}

func (w *standing) Write(text []byte) (int, error) {
	if w.from--; w.from < 0 {
		<-w.released
	}
	return len(text), nil
}

// TestNobodyReads: a terminal that stands still keeps no budget from ending a
// run, and nothing from being mended.
func TestNobodyReads(t *testing.T) {
	t.Parallel()
	s := newSite(t, "az1", "az2")
	terminal := &standing{from: 2, released: make(chan struct{})}
	s.target.Faults = faults{"kill": func() *hooks {
		h := s.failing(1)
		mend := h.mend
		h.mend = func(ctx context.Context) error { defer close(terminal.released); return mend(ctx) }
		return h
	}}
	r := s.runner(t, testDrill(func(d *Drill) { d.Load.Duration, d.Faults[0].For, d.Budget = time.Hour, 0, 0.001 }))
	r.options.Progress = report.NewProgress(terminal, true)
	run, well := r.once(t.Context(), 0)
	if run = s.theRun(t, []*report.Run{run}, nil, report.Aborted); well || !strings.Contains(run.Reason, "error budget is burned") {
		t.Errorf("well %v, reason %q", well, run.Reason)
	}
}

// TestTellerDrops what there is no room for, and says how much.
func TestTellerDrops(t *testing.T) {
	out := new(said)
	tell := &teller{queue: make(chan func(), 2)}
	told := ""
	for n := range 4 {
		tell.say(func() { told += strconv.Itoa(n) })
		tell.show(func() { t.Error("shown though others wait") })
	}
	close(tell.queue)
	tell.run(report.NewProgress(out, false))
	if told != "01" || out.String() != "2 lines are left out: nobody read them in time\n" {
		t.Errorf("told %s, %q", told, out.String())
	}
}

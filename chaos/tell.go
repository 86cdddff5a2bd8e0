package chaos

import (
	"fmt"
	"sync/atomic"

	"github.com/grayfed/grayfed/chaos/report"
)

// maxUntold bounds what waits to be told while nobody reads.
const maxUntold = 100

// teller tells how a run goes, by a goroutine of its own: a terminal that stands
// still (Ctrl-S, a screen that is scrolled back) keeps nothing from being mended.
type teller struct {
	queue   chan func()
	dropped atomic.Int64 // for want of room; run says how many
}

// say has do called after what was said before.
func (t *teller) say(do func()) {
	select {
	case t.queue <- do:
	default:
		t.dropped.Add(1)
	}
}

// show is say of what the next one replaces: never while anything waits.
func (t *teller) show(do func()) {
	if len(t.queue) == 0 {
		t.say(do)
	}
}

// run returns when the queue is closed and all of it is told.
func (t *teller) run(progress *report.Progress) {
	for do := range t.queue {
		do()
	}
	if n := t.dropped.Load(); n > 0 {
		progress.Say(fmt.Sprintf("%d lines are left out: nobody read them in time", n))
	}
}

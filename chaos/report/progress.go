package report

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

const (
	// progressWidth is what one line of any terminal takes.
	progressWidth = 79
	// progressEvery is how much of a run passes between two lines where they
	// are kept: in a file, or a CI's log.
	progressEvery = 5 * time.Second
)

// Live is how a run stands.
type Live struct {
	Elapsed, Of time.Duration
	Rate        float64 // requests/s of late
	P50, P99    time.Duration
	Lost, Wrong int
	Broken      []string // the faults that are broken now
}

// Progress tells how a run goes on: on a terminal in one line that changes,
// elsewhere by lines now and then. It is safe for concurrent use.
type Progress struct {
	mu    sync.Mutex
	w     io.Writer
	tty   bool
	shown bool          // a line stands on the terminal, without its line feed
	next  time.Duration // from when on the next line is due elsewhere
}

// NewProgress writes to w, which is a terminal or is not.
func NewProgress(w io.Writer, tty bool) *Progress { return &Progress{w: w, tty: tty} }

// Update shows how the run stands. What cannot be written is lost.
func (p *Progress) Update(live Live) {
	p.mu.Lock()
	defer p.mu.Unlock()
	line := fmt.Sprintf("%5.1f/%.0f s  %.0f/s  p50 %s  p99 %s  lost %s  wrong %s", live.Elapsed.Seconds(), live.Of.Seconds(),
		live.Rate, span(live.P50), span(live.P99), count(live.Lost), count(live.Wrong))
	if len(live.Broken) > 0 {
		line += "  | " + plain(strings.Join(live.Broken, ", "))
	}
	if !p.tty {
		if live.Elapsed >= p.next {
			p.next = live.Elapsed - live.Elapsed%progressEvery + progressEvery
			_, _ = fmt.Fprintln(p.w, line)
		}
		return
	}
	if letters := []rune(line); len(letters) > progressWidth {
		line = string(letters[:progressWidth-3]) + "..."
	}
	// Erase in line (ECMA-48, EL) takes away what a longer line has left.
	_, _ = fmt.Fprint(p.w, "\r"+line+"\x1b[K")
	p.shown = true
}

// Say writes a line that stays: a fault that was broken, a verdict.
func (p *Progress) Say(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
	margin := text[:len(text)-len(strings.TrimLeft(text, " "))]
	_, _ = fmt.Fprintln(p.w, margin+plain(text))
}

// Begin starts the next run.
func (p *Progress) Begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
	p.next = 0
}

// End clears the line that changes.
func (p *Progress) End() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
}

func (p *Progress) clear() {
	if p.shown {
		_, _ = fmt.Fprint(p.w, "\r\x1b[K")
		p.shown = false
	}
}

package chaos

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/grayfed/grayfed/chaos/fault"
	"github.com/grayfed/grayfed/chaos/guard"
)

// effectTimeout bounds the question to one fault whether it took effect: it
// stays broken for so much longer.
const effectTimeout = 5 * time.Second

// askEffects asks what is broken of a step, and can tell, whether that took
// effect; each once.
func (l *timeline) askEffects(ctx context.Context, s *liveStep) {
	for _, f := range s.faults {
		able, ok := f.Fault.(fault.Effective)
		if !ok || f.asked || f.mark.Broken == 0 || f.mark.Mended > 0 {
			continue
		}
		limited, cancel := context.WithTimeout(ctx, effectTimeout)
		err := guard.Do(func() error { return able.Effect(limited) })
		cancel()
		if ctx.Err() != nil {
			return // cut short, which says nothing
		}
		if err != nil {
			err = fmt.Errorf("had no effect: %s: %w", f, err)
			l.note(err.Error())
		}
		l.mu.Lock()
		f.asked, f.idle = true, err
		l.mu.Unlock()
	}
}

// askWhatIsLeft is askEffects of what is mended after the load. Nothing may run
// any more.
func (l *timeline) askWhatIsLeft(ctx context.Context) {
	for _, s := range l.steps {
		l.askEffects(ctx, s)
	}
}

// idle are the faults that had no effect. Nothing may run any more.
func (l *timeline) idle() error {
	var errs []error
	for _, s := range l.steps {
		for _, f := range s.faults {
			errs = append(errs, f.idle)
		}
	}
	return errors.Join(errs...)
}

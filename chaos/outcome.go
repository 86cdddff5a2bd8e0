package chaos

import "time"

// outcome is one request and what came of it. Moments count from the load's
// beginning.
type outcome struct {
	job
	intended time.Duration // when it was meant to be sent
	late     time.Duration // how much later the generator had it sent
	done     time.Duration
	resolved time.Duration // how long DNS took to say where it enters
	entry    int           // index of the edge that it entered; -1: none
	zone     int           // index of the edge in whose zone it was answered; -1: not known
	// failure is why it has no answer of an instance; "" when it has one.
	failure string
	// wrong: the answer is of a version that was not asked for.
	wrong string
	// fallback: a permissive request was answered by the baseline.
	fallback bool
}

func (o *outcome) latency() time.Duration { return o.done - o.intended }

// took is the latency without what the generator itself was late, which no fault
// is to blame for.
func (o *outcome) took() time.Duration { return o.latency() - o.late }

func (o *outcome) byDNS() bool { return o.edge < 0 }

func (o *outcome) fail(why string) { o.failure = why }

// answeredBy judges the version of an answer.
func (o *outcome) answeredBy(version string, r *Request) {
	want := r.Baseline
	switch o.class {
	case untagged:
	case permissive:
		want = r.Permissive.Version
		if version == r.Baseline && version != want {
			o.fallback = true
			return
		}
	case strict:
		want = r.Strict.Version
	}
	if version != want {
		o.wrong = "answered by version " + version + " instead of " + want
	}
}

package gossip

import (
	"fmt"
	"time"

	"github.com/grayfed/grayfed/federation"
)

// beat is what an edge repeats of itself: its state, and a summary of the
// deviations it stands by, by which the others tell whether they have them all.
type beat struct {
	origin
	seq      uint64
	revision int64
	clock    uint64
	digest   string
	config   string
	lag      time.Duration
	version  uint64 // of its deviations
	count    uint64
	hash     uint64
	leaving  bool
	share    uint64 // weight of the edge's entry in DNS; 0: it is out
}

func (b *beat) append(to []byte) []byte {
	to = appendOrigin(to, b.origin)
	to = appendNumber(to, tagBeatSeq, b.seq)
	to = appendNumber(to, tagBeatRevision, uint64(max(b.revision, 0)))
	to = appendNumber(to, tagBeatClock, b.clock)
	to = appendText(to, tagBeatDigest, b.digest)
	to = appendText(to, tagBeatConfig, b.config)
	to = appendNumber(to, tagBeatLag, uint64(max(b.lag.Milliseconds(), 0)))
	to = appendNumber(to, tagBeatVersion, b.version)
	to = appendNumber(to, tagBeatCount, b.count)
	to = appendNumber(to, tagBeatHash, b.hash)
	if b.leaving {
		to = appendNumber(to, tagBeatLeaving, 1)
	}
	return appendNumber(to, tagBeatShare, b.share)
}

func decodeBeat(body []byte) (b beat, err error) {
	err = eachField(body, func(f field) (err error) {
		var n uint64
		switch f.tag {
		case tagBeatSeq:
			b.seq, err = f.number()
		case tagBeatRevision:
			if n, err = f.number(); err == nil && n > 1<<62 {
				err = fmt.Errorf("%w: revision", errMalformed)
			}
			b.revision = int64(n)
		case tagBeatClock:
			b.clock, err = f.number()
		case tagBeatDigest:
			b.digest, err = f.text(maxDigest)
		case tagBeatConfig:
			b.config, err = f.text(maxDigest)
		case tagBeatLag:
			b.lag, err = f.milliseconds()
		case tagBeatVersion:
			b.version, err = f.number()
		case tagBeatCount:
			b.count, err = f.number()
		case tagBeatHash:
			b.hash, err = f.number()
		case tagBeatLeaving:
			n, err = f.number()
			b.leaving = n != 0
		case tagBeatShare:
			if b.share, err = f.number(); err == nil && b.share > federation.MaxWeight {
				err = fmt.Errorf("%w: share", errMalformed)
			}
		default:
			err = b.read(f)
		}
		return err
	})
	if err == nil {
		err = b.check()
	}
	if err == nil && (b.seq == 0 || b.count > maxRecords) {
		err = fmt.Errorf("%w: beat", errMalformed)
	}
	return b, err
}

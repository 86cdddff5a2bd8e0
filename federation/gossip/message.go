package gossip

import (
	"fmt"
	"time"

	"github.com/grayfed/grayfed/federation"
)

// origin is who says something, in which of its lives.
type origin struct {
	edge        string
	incarnation uint64
}

// state is what two edges exchange when they meet: all they know.
type state struct {
	beats []beat
	raws  [][]byte // of beats
	sets  []set
}

type load struct {
	key      federation.Key
	inFlight uint64
}

type loads struct {
	origin
	seq     uint64
	entries []load
}

// Tags. They are never used for anything else again.
const (
	tagEdge        = 1
	tagIncarnation = 2

	tagBeatSeq      = 3
	tagBeatRevision = 4
	tagBeatClock    = 5
	tagBeatDigest   = 6
	tagBeatConfig   = 7
	tagBeatLag      = 8 // milliseconds
	tagBeatVersion  = 9
	tagBeatCount    = 10
	tagBeatHash     = 11
	tagBeatLeaving  = 12
	tagBeatShare    = 13

	tagDeltaRecord = 3

	tagSetVersion = 3
	tagSetAge     = 4 // milliseconds
	tagSetRecord  = 5

	tagStateBeat = 1
	tagStateSet  = 2

	tagService = 1
	tagID      = 2

	tagRecordVersion = 3
	tagRecordSeq     = 4
	tagRecordStatus  = 5
	tagRecordPercent = 6
	tagRecordReason  = 7

	tagLoadSeq      = 3
	tagLoadEntry    = 4
	tagLoadInFlight = 3

	tagMetaFederation = 3
	tagMetaCluster    = 4
	tagMetaZone       = 5
	tagMetaRegion     = 6
	tagMetaData       = 7
	tagMetaAdmin      = 8
	tagMetaPeer       = 9
	tagMetaEntry      = 10

	tagEntryRole    = 1 // 1 primary, 2 standby
	tagEntryPort    = 2
	tagEntryWeight  = 3
	tagEntryAddress = 4 // 4 or 16 bytes
	tagEntryTLS     = 5
)

func appendOrigin(b []byte, o origin) []byte {
	b = appendText(b, tagEdge, o.edge)
	return appendNumber(b, tagIncarnation, o.incarnation)
}

// read takes the fields that every origin has; others are the caller's.
func (o *origin) read(f field) (err error) {
	switch f.tag {
	case tagEdge:
		o.edge, err = f.text(federation.MaxNameLength)
	case tagIncarnation:
		o.incarnation, err = f.number()
	}
	return err
}

func (o *origin) check() error {
	if !federation.ValidName(o.edge) || o.incarnation == 0 {
		return fmt.Errorf("%w: origin", errMalformed)
	}
	return nil
}

// milliseconds reads a span of at most ten years.
func (f field) milliseconds() (time.Duration, error) {
	n, err := f.number()
	if err == nil && n > uint64(10*365*24*time.Hour/time.Millisecond) {
		err = fmt.Errorf("%w: span in field %d", errMalformed, f.tag)
	}
	return time.Duration(n) * time.Millisecond, err
}

func decodeState(body []byte) (s state, err error) {
	err = eachField(body, func(f field) error {
		if len(s.beats)+len(s.sets) > 2*maxEdges {
			return fmt.Errorf("%w: too many edges", errMalformed)
		}
		switch f.tag {
		case tagStateBeat:
			b, err := decodeBeat(f.value)
			if err != nil {
				return err
			}
			s.beats = append(s.beats, b)
			s.raws = append(s.raws, f.value)
		case tagStateSet:
			v, err := decodeSet(f.value)
			if err != nil {
				return err
			}
			s.sets = append(s.sets, v)
		}
		return nil
	})
	return s, err
}

func (l *loads) append(to []byte) []byte {
	to = appendOrigin(to, l.origin)
	to = appendNumber(to, tagLoadSeq, l.seq)
	for _, e := range l.entries {
		to = appendBytes(to, tagLoadEntry, appendNumber(appendKey(nil, e.key), tagLoadInFlight, e.inFlight))
	}
	return to
}

func decodeLoads(body []byte) (l loads, err error) {
	err = eachField(body, func(f field) (err error) {
		switch f.tag {
		case tagLoadSeq:
			l.seq, err = f.number()
		case tagLoadEntry:
			if len(l.entries) == maxLoads {
				return fmt.Errorf("%w: more than %d loads", errMalformed, maxLoads)
			}
			var e load
			if e, err = decodeLoad(f.value); err == nil {
				l.entries = append(l.entries, e)
			}
		default:
			err = l.read(f)
		}
		return err
	})
	if err == nil {
		err = l.check()
	}
	return l, err
}

func decodeLoad(body []byte) (e load, err error) {
	err = eachField(body, func(f field) (err error) {
		if f.tag != tagLoadInFlight {
			return readKey(&e.key, f)
		}
		if e.inFlight, err = f.number(); e.inFlight > federation.MaxCapacity {
			err = fmt.Errorf("%w: implausible load", errMalformed)
		}
		return err
	})
	if err == nil {
		err = checkKey(e.key)
	}
	return e, err
}

func appendKey(b []byte, k federation.Key) []byte {
	return appendText(appendText(b, tagService, k.Service), tagID, k.ID)
}

func readKey(k *federation.Key, f field) (err error) {
	switch f.tag {
	case tagService:
		k.Service, err = f.text(federation.MaxNameLength)
	case tagID:
		k.ID, err = f.text(federation.MaxNameLength)
	}
	return err
}

func checkKey(k federation.Key) error {
	if !federation.ValidName(k.Service) || !federation.ValidName(k.ID) {
		return fmt.Errorf("%w: key", errMalformed)
	}
	return nil
}

func decodeKey(body []byte) (k federation.Key, err error) {
	if err = eachField(body, func(f field) error { return readKey(&k, f) }); err == nil {
		err = checkKey(k)
	}
	return k, err
}

func decodeOrigin(body []byte) (o origin, err error) {
	if err = eachField(body, o.read); err == nil {
		err = o.check()
	}
	return o, err
}

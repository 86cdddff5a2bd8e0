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

// record is one deviation, or the withdrawal of one (status unknown).
type record struct {
	key     federation.Key
	version uint64 // orders all records of one origin
	seq     uint64
	status  federation.HealthStatus
	percent uint8
	reason  string
	raw     []byte // as it came: what is hashed and passed on
}

// delta is one change of an origin's deviations.
type delta struct {
	origin
	record record
}

// set is all deviations of an origin as of a version.
type set struct {
	origin
	version uint64
	age     time.Duration // since the origin last stood by it
	records []record
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

// milliseconds reads a span of at most ten years.
func (f field) milliseconds() (time.Duration, error) {
	n, err := f.number()
	if err == nil && n > uint64(10*365*24*time.Hour/time.Millisecond) {
		err = fmt.Errorf("%w: span in field %d", errMalformed, f.tag)
	}
	return time.Duration(n) * time.Millisecond, err
}

// encode fills in r.raw.
func (r *record) encode() {
	b := appendKey(nil, r.key)
	b = appendNumber(b, tagRecordVersion, r.version)
	b = appendNumber(b, tagRecordSeq, r.seq)
	b = appendNumber(b, tagRecordStatus, uint64(r.status))
	b = appendNumber(b, tagRecordPercent, uint64(r.percent))
	r.raw = appendText(b, tagRecordReason, r.reason)
}

func decodeRecord(body []byte) (record, error) {
	r := record{raw: append([]byte(nil), body...)}
	err := eachField(body, func(f field) (err error) {
		var n uint64
		switch f.tag {
		case tagRecordVersion:
			r.version, err = f.number()
		case tagRecordSeq:
			r.seq, err = f.number()
		case tagRecordStatus:
			// A status of a later version means nothing here: unknown.
			if n, err = f.number(); n <= uint64(federation.Unhealthy) {
				r.status = federation.HealthStatus(n)
			}
		case tagRecordPercent:
			if n, err = f.number(); n > 100 {
				err = fmt.Errorf("%w: percent", errMalformed)
			}
			r.percent = uint8(n)
		case tagRecordReason:
			r.reason, err = f.text(maxReason)
		default:
			err = readKey(&r.key, f)
		}
		return err
	})
	if err == nil {
		err = checkKey(r.key)
	}
	if err == nil && r.version == 0 {
		err = fmt.Errorf("%w: record without version", errMalformed)
	}
	return r, err
}

// sum is the record's part in its set's hash, which is the sum of all: FNV-1a
// over the bytes that came, mixed so that sums do not cancel out.
func (r *record) sum() uint64 {
	h := uint64(14695981039346656037)
	for _, c := range r.raw {
		h = (h ^ uint64(c)) * 1099511628211
	}
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

func (d *delta) append(to []byte) []byte {
	return appendBytes(appendOrigin(to, d.origin), tagDeltaRecord, d.record.raw)
}

func decodeDelta(body []byte) (d delta, err error) {
	err = eachField(body, func(f field) (err error) {
		if f.tag == tagDeltaRecord {
			d.record, err = decodeRecord(f.value)
			return err
		}
		return d.read(f)
	})
	if err == nil {
		err = d.check()
	}
	if err == nil && d.record.version == 0 {
		err = fmt.Errorf("%w: delta without record", errMalformed)
	}
	return d, err
}

func (s *set) append(to []byte) []byte {
	to = appendOrigin(to, s.origin)
	to = appendNumber(to, tagSetVersion, s.version)
	to = appendNumber(to, tagSetAge, uint64(max(s.age.Milliseconds(), 0)))
	for i := range s.records {
		to = appendBytes(to, tagSetRecord, s.records[i].raw)
	}
	return to
}

func decodeSet(body []byte) (s set, err error) {
	err = eachField(body, func(f field) (err error) {
		switch f.tag {
		case tagSetVersion:
			s.version, err = f.number()
		case tagSetAge:
			s.age, err = f.milliseconds()
		case tagSetRecord:
			if len(s.records) == maxRecords {
				return fmt.Errorf("%w: more than %d records", errMalformed, maxRecords)
			}
			var r record
			if r, err = decodeRecord(f.value); err == nil {
				s.records = append(s.records, r)
			}
		default:
			err = s.read(f)
		}
		return err
	})
	if err == nil {
		err = s.check()
	}
	for i := range s.records {
		if err == nil && s.records[i].version > s.version {
			err = fmt.Errorf("%w: record above its set's version", errMalformed)
		}
	}
	return s, err
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

// encodeMeta is what membership itself carries of an edge: what does not
// change while it lives.
func encodeMeta(name string, e *federation.Edge) []byte {
	b := newMessage(kindMeta, nameHash(name))
	b = appendOrigin(b, origin{edge: e.ID, incarnation: e.Incarnation})
	b = appendText(b, tagMetaFederation, name)
	b = appendText(b, tagMetaCluster, e.Cluster)
	b = appendText(b, tagMetaZone, e.Zone)
	b = appendText(b, tagMetaRegion, e.Region)
	b = appendText(b, tagMetaData, e.Data)
	b = appendEntry(b, &e.Entry)
	b = appendText(b, tagMetaAdmin, e.Admin)
	return appendText(b, tagMetaPeer, e.Peer)
}

// decodeMeta returns the edge that a node says it is, and its federation. The
// federation's hash is not checked, so that a foreign one can be named.
func decodeMeta(data []byte) (e federation.Edge, name string, err error) {
	if len(data) < headerLength || data[0] != schema || kind(data[1]) != kindMeta {
		return e, "", fmt.Errorf("%w: node metadata", errMalformed)
	}
	var o origin
	err = eachField(data[headerLength:], func(f field) (err error) {
		switch f.tag {
		case tagMetaFederation:
			name, err = f.text(federation.MaxNameLength)
		case tagMetaCluster:
			e.Cluster, err = f.text(federation.MaxNameLength)
		case tagMetaZone:
			e.Zone, err = f.text(federation.MaxNameLength)
		case tagMetaRegion:
			e.Region, err = f.text(federation.MaxNameLength)
		case tagMetaData:
			e.Data, err = f.text(512)
		case tagMetaAdmin:
			e.Admin, err = f.text(512)
		case tagMetaPeer:
			e.Peer, err = f.text(512)
		case tagMetaEntry:
			e.Entry, err = decodeEntry(f.value)
		default:
			err = o.read(f)
		}
		return err
	})
	if err == nil {
		err = o.check()
	}
	e.ID, e.Incarnation = o.edge, o.incarnation
	return e, name, err
}

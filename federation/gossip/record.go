package gossip

import (
	"fmt"
	"time"

	"github.com/grayfed/grayfed/federation"
)

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

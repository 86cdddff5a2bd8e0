package federation

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
)

// Fingerprint is 16 bytes of hash over one stored fact, or the sum of many.
type Fingerprint [16]byte

// FingerprintOf hashes an etcd-confirmed fact: its key, the ModRevision of its
// last write and its stored value (SHA-256, first 16 bytes). Lengths go in
// too, so that no two facts share an encoding.
func FingerprintOf(key string, modRevision int64, value []byte) Fingerprint {
	h := sha256.New()
	var head [16]byte
	binary.BigEndian.PutUint64(head[:8], uint64(len(key)))
	binary.BigEndian.PutUint64(head[8:], uint64(modRevision))
	h.Write(head[:])
	h.Write([]byte(key))
	h.Write(value)
	var sum [sha256.Size]byte
	return Fingerprint(h.Sum(sum[:0])[:16])
}

// Add returns the sum of two fingerprints, as two 64-bit lanes. Sums are
// commutative and associative, so the digest of a set does not depend on the
// order its facts arrived in.
func (f Fingerprint) Add(o Fingerprint) Fingerprint { return f.combine(o, 1) }

// Sub takes a fact that was added out of the sum again.
func (f Fingerprint) Sub(o Fingerprint) Fingerprint { return f.combine(o, ^uint64(0)) }

func (f Fingerprint) combine(o Fingerprint, sign uint64) (sum Fingerprint) {
	for lane := 0; lane < len(f); lane += 8 {
		a, b := binary.BigEndian.Uint64(f[lane:]), binary.BigEndian.Uint64(o[lane:])
		binary.BigEndian.PutUint64(sum[lane:], a+sign*b)
	}
	return sum
}

// String is hexadecimal, 32 digits.
func (f Fingerprint) String() string { return hex.EncodeToString(f[:]) }

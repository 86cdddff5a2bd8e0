package http2

// closedRing remembers the streams that were closed last, because what a
// frame on one of them means depends on how it was closed.
type closedRing struct {
	ids [64]uint32
	how [64]closedHow
	n   int
}

// closedHow is how a stream was closed.
type closedHow uint8

const (
	closedLong   closedHow = iota // too long ago to tell, or never open
	closedBoth                    // both sides have ended it
	closedByPeer                  // the peer has reset it
	closedByUs                    // we have: frames may still be on their way
)

func (r *closedRing) add(id uint32, how closedHow) {
	i := r.n % len(r.ids)
	r.ids[i], r.how[i] = id, how
	r.n++
}

func (r *closedRing) find(id uint32) closedHow {
	for i, known := range r.ids {
		if known == id {
			return r.how[i]
		}
	}
	return closedLong
}

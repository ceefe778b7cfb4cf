package guestapi

import "encoding/binary"

// Noise is a pseudo-random stream (splitmix64): both ends make it from a seed,
// so the receiver can tell the first byte that is wrong, not only that one is.
type Noise struct {
	state uint64
	rest  [8]byte
	left  int // bytes of rest that were not given yet
}

// NewNoise starts the stream of a seed.
func NewNoise(seed uint64) *Noise { return &Noise{state: seed} }

func (n *Noise) next() uint64 {
	n.state += 0x9e3779b97f4a7c15
	z := n.state
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// Read fills p; it never fails.
func (n *Noise) Read(p []byte) (int, error) {
	all := len(p)
	for n.left > 0 && len(p) > 0 {
		p[0] = n.rest[8-n.left]
		n.left--
		p = p[1:]
	}
	for len(p) >= 8 {
		binary.LittleEndian.PutUint64(p, n.next())
		p = p[8:]
	}
	if len(p) > 0 {
		binary.LittleEndian.PutUint64(n.rest[:], n.next())
		n.left = 8 - copy(p, n.rest[:])
	}
	return all, nil
}

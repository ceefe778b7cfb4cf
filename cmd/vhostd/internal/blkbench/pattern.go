package blkbench

import "encoding/binary"

// pattern is what a block is full of: words that follow from the run, the place
// and how many times the block was written, so that what belongs elsewhere, or was
// there before, is told from what should be there.
func pattern(seed, block uint64, version uint32) (first, step uint64) {
	first = mix(seed ^ mix(block^uint64(version)<<40))
	return first, first | 1
}

// mix is a permutation of 64 bits that looks like none (splitmix64's finaliser).
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// fill writes a pattern.
func fill(b []byte, seed, block uint64, version uint32) {
	word, step := pattern(seed, block, version)
	for ; len(b) >= 8; b = b[8:] {
		binary.LittleEndian.PutUint64(b, word)
		word += step
	}
}

// holds says whether b is full of a pattern.
func holds(b []byte, seed, block uint64, version uint32) bool {
	word, step := pattern(seed, block, version)
	for ; len(b) >= 8; b = b[8:] {
		if binary.LittleEndian.Uint64(b) != word {
			return false
		}
		word += step
	}
	return true
}

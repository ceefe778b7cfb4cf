package memtable_test

import (
	"encoding/binary"
	"testing"

	"github.com/vhostd/vhostd/memtable"
)

// FuzzTable reads regions and questions from the input. What New accepts must
// be free of overlap, and every index must answer as a walk does.
func FuzzTable(f *testing.F) {
	seed := func(words ...uint64) {
		var b []byte
		for _, w := range words {
			b = binary.LittleEndian.AppendUint64(b, w)
		}
		f.Add(b)
	}
	seed(2, 0, 0xa0000, 0, 0xc0000, 0x100000, 0xa0000, 0x9ffff, 2, 0x9ffff, 1)
	seed(2, 0, 4096, 0, 4096, 4096, 0, 0, 8192, 4095, 2)                         // touch, do not here
	seed(2, 0, 4096, 0, ^uint64(4095), 4096, 4096, ^uint64(0), 1, ^uint64(0), 2) // both ends
	seed(1, 1, 8191, 3, 1, 8191, 4096, 4096)
	seed(0, 0, 0)

	f.Fuzz(func(t *testing.T, in []byte) {
		word := func() (w uint64) {
			var b [8]byte
			in = in[copy(b[:], in):]
			return binary.LittleEndian.Uint64(b[:])
		}
		regions := make([]region, word()%16)
		for i := range regions {
			regions[i] = region{Addr: gpa(word()), Size: word(), Skip: word(), Mem: slabs()[i%2]}
		}
		var tabs []*table
		for _, o := range indexes {
			tab, err := memtable.New(regions, o)
			if (err == nil) != sound(regions) {
				t.Fatalf("New(%+v): %v", regions, err)
			}
			if err != nil {
				return
			}
			tabs = append(tabs, tab)
		}
		windows := make([]memtable.Window[gpa], len(tabs))
		for len(in) > 0 {
			a, n := gpa(word()), word()
			for i, tab := range tabs {
				compare(t, tab, regions, &windows[i], a, n)
			}
		}
	})
}

// sound says, pair by pair and with 128 bits in mind, what New must accept.
func sound(regions []region) bool {
	for i, r := range regions {
		end := uint64(r.Addr) + r.Size
		switch {
		case r.Size == 0, r.Size > slabSize, r.Skip > slabSize-r.Size, end < r.Size && end != 0:
			return false
		}
		for _, o := range regions[:i] {
			if uint64(r.Addr-o.Addr) < o.Size || uint64(o.Addr-r.Addr) < r.Size {
				return false
			}
		}
	}
	return true
}

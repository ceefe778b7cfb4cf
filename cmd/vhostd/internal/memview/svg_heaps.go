package memview

import (
	"fmt"
	"math/bits"
	"strings"

	"github.com/vhostd/vhostd/cmd/vhostd/internal/text"
	"github.com/vhostd/vhostd/memfd"
)

// A card of a heap, in pixels.
const (
	cardWidth  = 300
	cardHeight = 92
	barTop     = 44 // of the free lists
	barHeight  = 30
)

// heaps draws how scattered the free memory of heaps is: a bar for each size of
// piece, as high as the bytes in such pieces.
func (d *drawing) heaps(all []memfd.HeapLayout, room *int) {
	drawn := 0
	for i := range all {
		if *room--; *room < 0 {
			return
		}
		if drawn == 0 {
			d.y += 14
		}
		d.heap(&all[i], 24+drawn%3*cardWidth, d.y)
		if drawn++; drawn%3 == 0 {
			d.y += cardHeight
		}
	}
	if drawn%3 != 0 {
		d.y += cardHeight
	}
}

func (d *drawing) heap(h *memfd.HeapLayout, x, y int) {
	s := &h.Stats
	d.text(x, y+12, "head", h.Owner)
	d.text(x, y+26, "note", fmt.Sprintf("%d allocations, %s of %s used", s.Allocations, text.Size(s.Used), text.Size(s.Mapped)))
	if len(h.Free) == 0 {
		d.text(x, y+barTop+20, "note", "nothing is free")
		return
	}
	d.text(x, y+39, "note", fmt.Sprintf("free in pieces, the greatest %s:", text.Size(s.Greatest)))
	least, greatest, most := 63, 0, uint64(1)
	for _, f := range h.Free {
		n := bits.Len64(max(f.Least, 1)) - 1
		least, greatest, most = min(least, n), max(greatest, n), max(most, f.Bytes)
	}
	slot := min(float64(cardWidth-40)/float64(greatest-least+1), 22)
	fill := vacant
	if h.Shared {
		fill = vacantShared
	}
	for _, f := range h.Free {
		at := float64(x) + slot*float64(bits.Len64(max(f.Least, 1))-1-least)
		high := max(barHeight*float64(f.Bytes)/float64(most), 1)
		fmt.Fprintf(&d.body, "<g><title>%s</title>", escape(fmt.Sprintf("%d pieces of %s and more: %s", f.Count, text.Size(f.Least), text.Size(f.Bytes))))
		kindRect(&d.body, fill, at, float64(y+barTop+barHeight)-high, slot-2, high)
		fmt.Fprintf(&d.body, `<rect x="%.4g" y="%.4g" width="%.4g" height="%.4g" fill="none" stroke="#56616b" stroke-width=".5"/></g>`+"\n",
			at, float64(y+barTop+barHeight)-high, slot-2, high)
	}
	for n := least; n <= greatest; n++ {
		if slot >= 26 || (n-least)%2 == 0 {
			d.text(int(float64(x)+slot*float64(n-least)+slot/2-1), y+barTop+barHeight+11, "tick", short(1<<n))
		}
	}
}

// short writes a power of two in few letters: 64, 4K, 2M.
func short(n uint64) string {
	s := strings.TrimSuffix(strings.TrimSuffix(text.Size(n), "B"), "i")
	return strings.ReplaceAll(s, " ", "")
}

package fabric

import "github.com/vhostd/vhostd/virtio"

// writer fills the chains of a burst one after the other, and sets their used
// lengths: all but the last are filled completely (virtio 1.2, 5.1.6.4.1).
type writer struct {
	b         *virtio.Burst
	elem, seg int
	off       uint32 // in the segment
}

// room gives the next piece to write to. The caller made sure that there is one.
func (w *writer) room() []byte {
	for {
		e := &w.b.Elem[w.elem]
		if w.seg >= int(e.Segs) {
			w.elem, w.seg, w.off = w.elem+1, 0, 0
			continue
		}
		s := w.b.Seg(w.elem, w.seg)
		if w.off < s.Len {
			return s.VA.Add(uint64(w.off)).Bytes(uint64(s.Len - w.off))
		}
		w.seg, w.off = w.seg+1, 0
	}
}

func (w *writer) write(p []byte) {
	for len(p) > 0 {
		n := copy(w.room(), p)
		w.off += uint32(n)
		w.b.Elem[w.elem].Wrote += uint32(n)
		p = p[n:]
	}
}

// writeFrom copies n bytes of element i of src, from byte skip on.
func (w *writer) writeFrom(src *virtio.Burst, i int, skip, n uint32) {
	for k := 0; n > 0; k++ {
		s := src.Seg(i, k)
		if skip >= s.Len {
			skip -= s.Len
			continue
		}
		m := min(s.Len-skip, n)
		w.write(s.VA.Add(uint64(skip)).Bytes(uint64(m)))
		skip, n = 0, n-m
	}
}

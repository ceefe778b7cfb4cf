package memtable

import "unsafe"

// Window is the region that a look-up hit last. Neighbouring buffers mostly lie
// in one region, so a burst keeps one in a local. A hit costs what a flat index
// costs; it is a gain where the index is another, or frames are so small that
// ranges cross them. A miss is a search. The zero Window is ready. It belongs to one table and to one section of a
// [Reader]: start with a new one after each [Cell.Load].
type Window[A Address] struct{ window }

// window is Window without its type.
type window struct {
	base, size uint64
	p          unsafe.Pointer // of base
}

// Window gives the window on the region of a, or the zero Window if there is
// none.
func (t *Table[A]) Window(a A) Window[A] { return Window[A]{t.index.window(uint64(a))} }

func (x *index) window(a uint64) window {
	i, ok := x.find(a)
	if !ok {
		return window{}
	}
	s := &x.spans[i]
	return window{s.addr, s.size, s.va.p}
}

// At answers like [Table.At], for the table that w belongs to. A hit inlines;
// a miss moves the window to the region of a, if there is one.
func (w *Window[A]) At(t *Table[A], a A, n uint64) (v VA, ok bool) {
	v.p = w.peek(&t.index, uint64(a), n, (*window).miss)
	return v, v.p != nil
}

// peek is the hit. miss is a parameter for the reason given at look.
func (w *window) peek(x *index, a, n uint64, miss func(w *window, x *index, a, n uint64) unsafe.Pointer) unsafe.Pointer {
	off := a - w.base
	if off >= w.size || n > w.size-off {
		return miss(w, x, a, n)
	}
	return unsafe.Add(w.p, off)
}

func (w *window) miss(x *index, a, n uint64) unsafe.Pointer {
	if to := x.window(a); to.p != nil {
		*w = to
	}
	off := a - w.base
	if off >= w.size || n > w.size-off {
		return nil
	}
	return unsafe.Add(w.p, off)
}

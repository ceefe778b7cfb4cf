package memfd

import (
	"bytes"
	"errors"
	"testing"

	"pgregory.net/rapid"

	"github.com/vhostd/vhostd/memtable"
)

// loaned is what the model knows of a buffer: what is written all over it.
type loaned struct {
	memtable.Buf
	canary byte
}

// tenant is a heap and the model of it.
type tenant struct {
	h    *Heap
	lent []loaned
	next byte
}

func heapOn(f *fake, o HeapOptions) *Heap {
	return &Heap{name: "test", o: o, store: newStore(f, "heap test", o.Shared, o.Shared, -1), leave: func() {}}
}

func (m *tenant) sign(b memtable.Buf) {
	m.next++
	for i := range b.VA.Bytes(uint64(b.Cap)) {
		b.VA.Bytes(uint64(b.Cap))[i] = m.next
	}
	m.lent = append(m.lent, loaned{b, m.next})
}

// intact tells whether the first n bytes of a buffer are as they were written.
func (l loaned) intact(n uint64) bool {
	return bytes.Count(l.VA.Bytes(n), []byte{l.canary}) == int(n)
}

// TestHeapModel lets all operations follow each other in any order, and tests
// that no two buffers share a byte, that contents stay, that what is said to be
// zero is, and that the books are right.
func TestHeapModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		f := newFake(t, ground{4096, 16 << 10, AnyNode, 12}, ground{16 << 10, 32 << 10, AnyNode, 6})
		f.shift = map[int]uint64{3: 1 << 40, 4: 1 << 40, 14: 1 << 41}
		m := &tenant{h: heapOn(f, HeapOptions{Node: AnyNode, Shared: rapid.Bool().Draw(rt, "shared")})}
		size := rapid.OneOf(rapid.Uint64Range(1, 300), rapid.Uint64Range(1, 40<<10))
		align := rapid.Map(rapid.IntRange(0, 15), func(n int) uint64 { return 1 << n })
		rt.Repeat(map[string]func(*rapid.T){
			"alloc": func(rt *rapid.T) {
				n, to := size.Draw(rt, "size"), align.Draw(rt, "align")
				b, err := m.h.Alloc(t.Context(), n, to)
				m.allocated(rt, b, n, to, err)
			},
			"zero": func(rt *rapid.T) {
				n, to := size.Draw(rt, "size"), align.Draw(rt, "align")
				b, err := m.h.AllocZero(t.Context(), n, to)
				if err == nil && bytes.Count(b.VA.Bytes(uint64(b.Cap)), []byte{0}) != int(b.Cap) {
					rt.Fatal("memory is not zero")
				}
				m.allocated(rt, b, n, to, err)
			},
			"free": func(rt *rapid.T) {
				if l, ok := m.pick(rt); ok {
					if !l.intact(uint64(l.Cap)) {
						rt.Fatalf("somebody wrote into %v", l.VA)
					}
					if err := m.h.Free(l.Buf); err != nil {
						rt.Fatal(err)
					}
					if err := m.h.Free(l.Buf); !errors.Is(err, ErrFreed) {
						rt.Fatal("a buffer was taken back twice:", err)
					}
				}
			},
			"realloc": func(rt *rapid.T) {
				l, ok := m.pick(rt)
				if !ok {
					return
				}
				n, to := size.Draw(rt, "size"), align.Draw(rt, "align")
				b, err := m.h.Realloc(t.Context(), l.Buf, n, to)
				if err != nil {
					m.lent = append(m.lent, l)
				} else if kept := (loaned{b, l.canary}); !kept.intact(min(n, uint64(l.Cap))) {
					rt.Fatal("contents were lost")
				}
				m.allocated(rt, b, n, to, err)
			},
			"sweep": func(*rapid.T) { m.h.store.sweep() },
			"stats": func(rt *rapid.T) { // at times only, because they clear the shelf
				if st := m.h.Stats(); f.held() != st.Mapped || st.Grown-st.Returned != st.Mapped || st.Allocations != len(m.lent) {
					rt.Fatalf("%d bytes are taken, %d buffers lent: %+v", f.held(), len(m.lent), st)
				}
			},
			"": func(rt *rapid.T) {
				if err := audit(m.h.store); err != nil {
					rt.Fatal(err)
				}
			},
		})
		for _, l := range m.lent {
			if err := m.h.Free(l.Buf); err != nil {
				rt.Fatal(err)
			}
		}
		if err := m.h.Close(); err != nil || f.held() != 0 {
			rt.Fatalf("%d bytes are left: %v", f.held(), err)
		}
	})
}

// allocated notes a new buffer.
func (m *tenant) allocated(rt *rapid.T, b memtable.Buf, n, align uint64, err error) {
	if _, short := errors.AsType[*ShortageError](err); short {
		return
	}
	if err != nil {
		rt.Fatal(err)
	}
	if numberOf(b.VA)%max(align, quantum) != 0 || uint64(b.Len) != n || b.Cap < b.Len || b.Cap >= b.Len+quantum {
		rt.Fatalf("%+v for %d bytes aligned to %d", b, n, align)
	}
	if addr, room, _ := m.h.store.from.iova(b.VA); m.h.o.Shared && (b.Addr != addr || room < uint64(b.Cap)) {
		rt.Fatalf("%+v is at %x for devices, for %d bytes", b, addr, room)
	}
	m.sign(b)
}

// pick takes one of the buffers out of the model.
func (m *tenant) pick(rt *rapid.T) (l loaned, ok bool) {
	if len(m.lent) == 0 {
		return l, false
	}
	i := rapid.IntRange(0, len(m.lent)-1).Draw(rt, "which")
	l = m.lent[i]
	m.lent = append(m.lent[:i], m.lent[i+1:]...)
	return l, true
}

func TestBinsAreInOrderAndHoldWhatTheySay(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		size := rapid.Map(rapid.Uint64Range(1, 1<<50), func(n uint64) uint64 { return up(n, quantum) }).Draw(rt, "size")
		b := binOf(size)
		if b >= binMax || binOf(size-quantum) > b || binOf(size+quantum) < b || binOf(size+quantum) > b+1 {
			rt.Fatalf("%d bytes are in bin %d, between %d and %d", size, b, binOf(size-quantum), binOf(size+quantum))
		}
		// What is in a bin differs by a sixteenth at most.
		if up(size+size/binSubs, quantum) > size+quantum && binOf(size+size/binSubs+quantum) == b {
			rt.Fatalf("%d and a sixteenth more share bin %d", size, b)
		}
	})
}

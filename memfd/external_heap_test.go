package memfd

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vhostd/vhostd/memtable"
)

func externalHeap(t testing.TB, a *Arena, name string, add ...ExternalOptions) *ExternalHeap {
	t.Helper()
	h, err := a.ExternalHeap(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range add {
		if err := h.Add(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

// inside tells whether n bytes at va lie in mem.
func inside(mem []byte, va memtable.VA, n uint64) bool {
	off := numberOf(va) - addressOf(mem)
	return off < uint64(len(mem)) && n <= uint64(len(mem))-off
}

// What DPDK's test_external_mem does: memory with an address for each page, and
// memory without.
func TestAnExternalHeapLendsWhatWasAddedAndNothingElse(t *testing.T) {
	for name, with := range map[string]bool{"with addresses": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			o := small()
			o.IOVA, o.Resolver = IOVAAsPA, shuffled{}
			a := opened(t, linux{}, o)
			before := look(t, a)
			mem := anonymous(t, 4<<20)
			mem[123], mem[len(mem)-1] = 1, 1
			add := ExternalOptions{Mem: mem}
			if with {
				add.Addrs = addrs(mem, 0x100000000)
			}
			h := externalHeap(t, a, "h")
			if _, err := h.Alloc(t.Context(), 64, 0); !isShort(err) {
				t.Errorf("of an empty heap: %v", err)
			}
			if err := h.Add(t.Context(), add); err != nil {
				t.Fatal(err)
			}
			if len(bytes.Trim(mem, "\x00")) != 0 {
				t.Error("memory that was added is not zero")
			}
			if st := h.Stats(); st.Free != 4<<20 || st.Greatest != 4<<20 {
				t.Errorf("the heap has %+v", st)
			}
			b, err := h.Alloc(t.Context(), 64, 0)
			if err != nil || !inside(mem, b.VA, 64) {
				t.Fatalf("64 bytes: %+v, %v", b, err)
			}
			if want := wantAddr(with, mem, b.VA); b.Addr != want {
				t.Errorf("devices find it at 0x%x, want 0x%x", uint64(b.Addr), uint64(want))
			}
			if err := h.Remove(t.Context(), mem); !errors.Is(err, ErrBusy) {
				t.Errorf("removing what is lent: %v", err)
			}
			if err := h.Close(); !errors.Is(err, ErrBusy) {
				t.Errorf("closing with something lent: %v", err)
			}
			z, err := a.Zone(t.Context(), "z", ZoneOptions{Size: 8 << 10, Heap: h})
			if err != nil || !inside(mem, z.VA, 8<<10) || z.Addr != wantAddr(with, mem, z.VA) {
				t.Fatalf("a zone: %+v, %v", z, err)
			}
			c, err := a.Zone(t.Context(), "c", ZoneOptions{Size: 8 << 10, Heap: h, Contiguous: true})
			if with != (err == nil) || !with && !errors.Is(err, ErrNoAddress) {
				t.Errorf("a contiguous zone: %v", err)
			}
			if err == nil {
				err = c.Free()
			} else {
				err = nil
			}
			if err = errors.Join(err, z.Free(), h.Free(b), h.Remove(t.Context(), mem)); err != nil {
				t.Error(err)
			}
			if err := h.Remove(t.Context(), mem); !errors.Is(err, ErrUnknown) {
				t.Errorf("removing twice: %v", err)
			}
			if _, err := h.Alloc(t.Context(), 64, 0); !isShort(err) {
				t.Errorf("of a heap that is empty again: %v", err)
			}
			if err := h.Close(); err != nil {
				t.Error(err)
			}
			if diff := cmp.Diff(before, look(t, a)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func wantAddr(with bool, mem []byte, va memtable.VA) memtable.IOVA {
	if !with {
		return memtable.NoIOVA
	}
	return memtable.IOVA(0x100000000 + numberOf(va) - addressOf(mem))
}

func TestWhatIsWrongWithAnExternalHeapIsSaid(t *testing.T) {
	a := opened(t, linux{}, small())
	mem := anonymous(t, 8*somePage)
	for _, name := range []string{"", strings.Repeat("x", MaxName+1)} {
		if _, err := a.ExternalHeap(name); !errors.Is(err, ErrName) {
			t.Errorf("named %q: %v", name, err)
		}
	}
	h := externalHeap(t, a, "h", ExternalOptions{Mem: mem})
	if _, err := a.ExternalHeap("h"); !errors.Is(err, ErrExists) {
		t.Errorf("two of one name: %v", err)
	}
	if _, err := a.Heap("h", HeapOptions{}); !errors.Is(err, ErrExists) {
		t.Errorf("two of one name: %v", err)
	}
	for what, part := range map[string][]byte{"half": mem[:4*somePage], "other": anonymous(t, somePage), "nothing": nil} {
		if err := h.Remove(t.Context(), part); !errors.Is(err, ErrUnknown) {
			t.Errorf("removing %s: %v", what, err)
		}
	}
	if err := h.Add(t.Context(), ExternalOptions{Mem: mem}); !errors.Is(err, ErrOverlap) {
		t.Errorf("adding it twice: %v", err)
	}
	other := opened(t, linux{}, small())
	if _, err := other.Zone(t.Context(), "z", ZoneOptions{Size: 64, Heap: h}); !errors.Is(err, ErrForeign) {
		t.Errorf("a zone of another arena: %v", err)
	}
	if _, err := other.Pool(t.Context(), "p", PoolOptions{Size: 64, Heap: h}); !errors.Is(err, ErrForeign) {
		t.Errorf("a pool of another arena: %v", err)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if err := h.Add(t.Context(), ExternalOptions{Mem: mem}); !errors.Is(err, ErrClosed) {
		t.Errorf("adding to a heap that is closed: %v", err)
	}
}

func TestBuffersOfAnExternalHeapAreContiguousForDevices(t *testing.T) {
	a := opened(t, linux{}, small())
	mem := anonymous(t, 16*somePage)
	scattered := addrs(mem, 1<<40)
	// Three pages in one piece for devices, and the next three in front of them.
	for i := 0; i < len(scattered); i++ {
		scattered[i] = memtable.IOVA(1<<40 - i/3*8*somePage + i%3*somePage)
	}
	h := externalHeap(t, a, "h", ExternalOptions{Mem: mem, Addrs: scattered})
	var all []memtable.Buf
	for {
		b, err := h.Alloc(t.Context(), 2*somePage, somePage)
		if err != nil {
			break
		}
		for off := range uint64(2) {
			if va, ok := a.ByIOVA(nil).At(b.Addr+memtable.IOVA(off*somePage), somePage); !ok || va != b.VA.Add(off*somePage) {
				t.Errorf("page %d of the buffer at %v is found at %v", off, b.VA, va)
			}
		}
		all = append(all, b)
	}
	if len(all) != 5 {
		t.Errorf("%d buffers of two pages in five pieces of three and one of one", len(all))
	}
	if _, err := a.Zone(t.Context(), "z", ZoneOptions{Size: 4 * somePage, Heap: h, Contiguous: true}); !isShort(err) {
		t.Errorf("a contiguous zone of four pages: %v", err)
	}
	// In its place only as far as it stays contiguous.
	for _, b := range all[1:] {
		if err := h.Free(b); err != nil {
			t.Error(err)
		}
	}
	b, err := h.Realloc(t.Context(), all[0], 3*somePage, somePage)
	if addr, n, ok := a.iova(b.VA); err != nil || !ok || addr != b.Addr || n < 3*somePage {
		t.Errorf("made larger: %+v, contiguous for %d bytes, %v", b, n, err)
	}
	z, err := a.Zone(t.Context(), "loose", ZoneOptions{Size: 8 * somePage, Heap: h})
	if err != nil {
		t.Fatal("a zone that need not be contiguous:", err)
	}
	if err := errors.Join(z.Free(), h.Free(b)); err != nil {
		t.Error(err)
	}
}

// The number of a piece is a byte, and comes free with it.
func TestPiecesOfAnExternalHeapComeAndGoAndAreNeverJoined(t *testing.T) {
	a := opened(t, linux{}, small())
	mem := anonymous(t, 2*somePage)
	lower, upper := mem[:somePage], mem[somePage:]
	h := externalHeap(t, a, "h", ExternalOptions{Mem: lower})
	for range maxBrought + 10 {
		if err := h.Add(t.Context(), ExternalOptions{Mem: upper}); err != nil {
			t.Fatal(err)
		}
		if st := h.Stats(); st.Greatest != somePage || st.Free != 2*somePage {
			t.Fatalf("two pieces of a page that touch: %+v", st)
		}
		if err := h.Remove(t.Context(), lower); err != nil {
			t.Fatal(err)
		}
		lower, upper = upper, lower
	}
	many := anonymous(t, maxBrought*somePage)
	for i := range maxBrought {
		err := h.Add(t.Context(), ExternalOptions{Mem: many[i*somePage:][:somePage]})
		if isShort(err) != (i == maxBrought-1) {
			t.Fatalf("piece %d beside another: %v", i, err)
		}
	}
}

func TestAPoolLivesInAnExternalHeap(t *testing.T) {
	o := small()
	o.IOVA, o.Resolver = IOVAAsPA, shuffled{}
	a := opened(t, linux{}, o)
	mem := anonymous(t, 64*somePage)
	backwards := addrs(mem, 1<<40)
	slices.Reverse(backwards)
	plain := anonymous(t, 64*somePage)
	h := externalHeap(t, a, "h", ExternalOptions{Mem: plain})
	if _, err := a.Pool(t.Context(), "p", PoolOptions{Size: 1500, Count: 1, Heap: h}); !errors.Is(err, ErrNoAddress) {
		t.Errorf("a pool in memory without addresses: %v", err)
	}
	if err := h.Add(t.Context(), ExternalOptions{Mem: mem, Addrs: backwards}); err != nil {
		t.Fatal(err)
	}
	p, err := a.Pool(t.Context(), "p", PoolOptions{Size: 1500, Count: 64, Heap: h})
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Remove(t.Context(), mem); !errors.Is(err, ErrBusy) {
		t.Errorf("removing the memory of a pool: %v", err)
	}
	if err := p.Grow(t.Context(), 1000); !isShort(err) {
		t.Errorf("growing beyond what there is: %v", err)
	}
	c := p.Cache()
	bufs := make([]memtable.Buf, 64)
	if n := c.Get(bufs); n != 64 {
		t.Fatalf("%d buffers", n)
	}
	for _, b := range bufs {
		if va, ok := a.ByIOVA(nil).At(b.Addr, uint64(b.Cap)); !ok || va != b.VA || !inside(mem, b.VA, uint64(b.Cap)) {
			t.Fatalf("buffer %+v is found at %v", b, va)
		}
	}
	c.Put(bufs)
	c.Close()
	if err := errors.Join(p.Close(), h.Remove(t.Context(), mem)); err != nil {
		t.Error(err)
	}
}

package memfd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/memtable"
)

// onEveryPage runs a test in an arena of each page size. It may use so many
// extents, and what the kernel counts must be the same afterwards.
func onEveryPage(t *testing.T, extents int, test func(t *testing.T, k *saboteur, o Options)) {
	for _, page := range []uint64{uint64(os.Getpagesize()), 2 << 20, 1 << 30} {
		t.Run(bytesText(page), func(t *testing.T) {
			o := Options{Name: "sizes", Pages: []uint64{page}, Linger: -1, Space: uint64(extents) * max(page, 2<<20)}
			if page == uint64(os.Getpagesize()) {
				test(t, new(saboteur), o)
				return
			}
			hugePages(t, page, extents)
			unchanged(t, page, func() { test(t, new(saboteur), o) })
		})
	}
}

// closing closes an arena, of which nothing may be left.
func closing(t *testing.T, k *saboteur, a *Arena) {
	t.Helper()
	finish(t, k, a, nil)
}

// arenaOf makes an arena of one page size.
func arenaOf(t *testing.T, k *saboteur, o Options) (a *Arena, unit uint64) {
	t.Helper()
	a, err := newArena(k, o)
	if err != nil {
		t.Fatal(err)
	}
	return a, a.classes[0].unit
}

func TestAHeapTakesNoMorePagesThanItNeedsOfAnySize(t *testing.T) {
	onEveryPage(t, 2, func(t *testing.T, k *saboteur, o Options) {
		a, unit := arenaOf(t, k, o)
		defer closing(t, k, a)
		h, err := a.Heap("heap", HeapOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range []struct{ size, units uint64 }{
			{1, 1}, {unit - 128, 1}, {unit - 127, 1}, {unit - 1, 1}, {unit, 1}, {unit + 1, 2},
		} {
			b := lend(t, h, n.size, 0)
			e, ok := a.Lookup(b.VA)
			if st := h.Stats(); st.Mapped != n.units*unit || !ok || e.Page != o.Pages[0] {
				t.Errorf("%d bytes: %+v, in %+v", n.size, st, e)
			}
			freed(t, h, b)
			h.store.sweep()
			h.store.sweep()
		}
		if n := len(a.Extents()); n != 0 {
			t.Errorf("%d extents are left of what was freed", n)
		}
	})
}

func TestAHeapKeepsContentsAndZeroesOnPagesOfAnySize(t *testing.T) {
	onEveryPage(t, 2, func(t *testing.T, k *saboteur, o Options) {
		a, unit := arenaOf(t, k, o)
		defer closing(t, k, a)
		h, err := a.Heap("heap", HeapOptions{Shared: true})
		if err != nil {
			t.Fatal(err)
		}
		// The first lies at the end of an extent, and grows over its border.
		lead := lend(t, h, unit-64<<10, 0)
		b := lend(t, h, 60<<10, 2048)
		copy(b.VA.Bytes(4), "text")
		if b, err = h.Realloc(t.Context(), b, 300<<10, 2048); err != nil || string(b.VA.Bytes(4)) != "text" || numberOf(b.VA)%2048 != 0 {
			t.Errorf("%+v, %v", b, err)
		}
		if va, ok := a.ByIOVA(nil).At(b.Addr, uint64(b.Cap)); !ok || va != b.VA {
			t.Errorf("devices find %v, at %x", va, b.Addr)
		}
		dirty(b.VA, uint64(b.Cap))
		freed(t, h, b)
		zero, err := h.AllocZero(t.Context(), 300<<10, 0)
		if err != nil || bytes.Count(zero.VA.Bytes(uint64(zero.Cap)), []byte{0}) != int(zero.Cap) {
			t.Errorf("memory that had been used is not zero: %v", err)
		}
		freed(t, h, lead, zero)
		if err := errors.Join(audit(h.store), h.Close()); err != nil {
			t.Error(err)
		}
	})
}

func TestZonesLieAsAskedOnPagesOfAnySize(t *testing.T) {
	onEveryPage(t, 2, func(t *testing.T, k *saboteur, o Options) {
		a, unit := arenaOf(t, k, o)
		defer closing(t, k, a)
		for i, zo := range []ZoneOptions{
			{Size: 100, Align: 1024}, {Size: 1000, Bound: 1024}, {Size: unit / 2, Align: unit / 2, Bound: unit},
			{Size: unit, Align: unit, Contiguous: true}, {Size: 4096, Page: o.Pages[0]},
		} {
			z := zoned(t, a, fmt.Sprint(i), zo)
			if numberOf(z.VA)%max(zo.Align, 64) != 0 || zo.Bound != 0 && crosses(z, zo.Bound) || z.Size < zo.Size {
				t.Errorf("%+v for %+v", z, zo)
			}
			if va, ok := a.ByIOVA(nil).At(z.Addr, z.Size); zo.Contiguous && (!ok || va != z.VA) {
				t.Errorf("devices find %v for %+v", va, z)
			}
			if z.VA.Bytes(z.Size)[z.Size-1] != 0 {
				t.Errorf("%+v is not zero", z)
			}
			z.VA.Bytes(z.Size)[z.Size-1] = 1
			unzoned(t, z)
		}
		_, err := a.Zone(t.Context(), "of other pages", ZoneOptions{Size: 64, Page: o.Pages[0] * 2})
		if !isShort(err) {
			t.Errorf("pages of a size that the arena has not: %v", err)
		}
	})
}

func TestPoolsGrowAndShrinkOnPagesOfAnySize(t *testing.T) {
	onEveryPage(t, 3, func(t *testing.T, k *saboteur, o Options) {
		a, unit := arenaOf(t, k, o)
		defer closing(t, k, a)
		const size = 60 << 10 // no page of 2 MiB is a multiple of it
		page := o.Pages[0]
		p, err := a.Pool(t.Context(), "pool", PoolOptions{Size: size, Count: 1, Resident: 1, Straddle: page < size})
		if err != nil {
			t.Fatal(err)
		}
		n := p.Stats().Count
		if err := p.Grow(t.Context(), n+1); err != nil || p.Stats().Mapped != 3*unit {
			t.Errorf("%v, %+v", err, p.Stats())
		}
		c := p.Cache()
		all := got(t, c, p.Stats().Count)
		for _, b := range all {
			at := numberOf(b.VA)
			if page > size && at/page != (at+size-1)/page {
				t.Errorf("%+v crosses a page", b)
			}
			b.VA.Bytes(1)[0], b.VA.Bytes(size)[size-1] = 1, 1
		}
		c.Put(all)
		if gone, err := p.Shrink(t.Context(), len(all)); err != nil || gone != len(all)-n || p.Stats().Mapped != unit {
			t.Errorf("%d of %d buffers are gone: %v, %+v", gone, len(all), err, p.Stats())
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestEachUserIsAsBeforeWhicheverSystemCallFailsOnPagesOfAnySize(t *testing.T) {
	grows := map[string]func(ctx context.Context, a *Arena, h *Heap, p *Pool) error{
		"heap": func(ctx context.Context, _ *Arena, h *Heap, _ *Pool) error {
			b, err := h.Alloc(ctx, h.store.chunks.size, 0)
			if err == nil {
				err = h.Free(b)
			}
			return err
		},
		"zone": func(ctx context.Context, a *Arena, _ *Heap, _ *Pool) error {
			z, err := a.Zone(ctx, "zone", ZoneOptions{Size: 64})
			if err == nil {
				err = z.Free()
			}
			return err
		},
		"pool": func(ctx context.Context, _ *Arena, _ *Heap, p *Pool) error { return p.Grow(ctx, 1) },
		"another pool": func(ctx context.Context, a *Arena, _ *Heap, _ *Pool) error {
			_, err := a.Pool(ctx, "another", PoolOptions{Size: 64, Count: 1})
			return err
		},
	}
	for name, grow := range grows {
		t.Run(name, func(t *testing.T) {
			onEveryPage(t, 3, func(t *testing.T, k *saboteur, o Options) {
				a, _ := arenaOf(t, k, o)
				defer closing(t, k, a)
				h, err := a.Heap("heap", HeapOptions{Shared: true})
				if err != nil {
					t.Fatal(err)
				}
				p, err := a.Pool(t.Context(), "pool", PoolOptions{Size: 2048, Count: 1})
				if err != nil {
					t.Fatal(err)
				}
				w, stop := followed(t, a)
				small := lend(t, h, 64, 0)
				before := fmt.Sprint(look(t, a, w), h.Stats(), p.Stats(), a.Zones(), len(a.Pools()))
				for n := 1; ; n++ {
					k.arm(unix.ENOMEM, n)
					err := grow(t.Context(), a, h, p)
					hits := k.failed()
					k.arm(nil)
					if len(hits) == 0 {
						if err != nil || n < 4 {
							t.Errorf("after %d failures: %v", n-1, err)
						}
						break
					}
					after := fmt.Sprint(look(t, a, w), h.Stats(), p.Stats(), a.Zones(), len(a.Pools()))
					if diff := cmp.Diff(before, after); err == nil || diff != "" {
						t.Errorf("%v failed, and the caller got %v:\n%s", hits, err, diff)
					}
				}
				freed(t, h, small)
				if err := stop(t.Context()); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestAPeerSharesPagesOfAnySize(t *testing.T) {
	onEveryPage(t, 2, func(t *testing.T, k *saboteur, o Options) {
		a, unit := arenaOf(t, k, o)
		defer closing(t, k, a)
		z := zoned(t, a, "zone", ZoneOptions{Size: unit + 4096})
		defer unzoned(t, z)
		for _, r := range a.Runs() {
			e, _ := a.Lookup(z.VA)
			m, err := memtable.MapFile(e.FD, int64(r.Offset), r.Size, memtable.MapOptions{})
			if err != nil {
				t.Fatal(err)
			}
			for off := uint64(0); off < r.Size; off += unit {
				m.VA().Add(off).Bytes(1)[0] = byte(off/unit) + 7
			}
			if err := m.Close(); err != nil {
				t.Error(err)
			}
		}
		for off := uint64(0); off < z.Size; off += unit {
			if got := z.VA.Add(off).Bytes(1)[0]; got != byte(off/unit)+7 {
				t.Errorf("offset %d: the peer wrote %d, we read %d", off, off/unit+7, got)
			}
		}
	})
}

// TestAPartOfAFileGoesBackOnPagesOfAnySize: while the file has other pages, only
// the hole gives memory back.
func TestAPartOfAFileGoesBackOnPagesOfAnySize(t *testing.T) {
	onEveryPage(t, 2, func(t *testing.T, k *saboteur, o Options) {
		a, unit := arenaOf(t, k, o)
		defer closing(t, k, a)
		first := take(t, a, growth{owner: "first", size: unit, node: AnyNode})
		second := take(t, a, growth{owner: "second", size: unit, node: AnyNode})
		giveBack(t, a, first)
		want := fmt.Sprintf(" %d blocks", unit/512)
		if files := memfds(t, o.Name); len(files) != 1 || !strings.HasSuffix(files[0], want) {
			t.Errorf("the files are %q, and one of%s is wanted", files, want)
		}
		giveBack(t, a, second)
	})
}

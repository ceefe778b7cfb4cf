package memfd

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/memtable"
)

func TestInLegacyModeRunsOfAddressesAreRunsOfPhysicalMemory(t *testing.T) {
	a := opened(t, pretend(), legacyOptions())
	c := a.classes[0]
	var lines []string
	for _, l := range mapsOf(t, c) {
		lines = append(lines, strings.Fields(l)[1]) // rights
	}
	// 0 1 2 . 4 5 . 9 10 . 20, of pages 3 4 6 . 1 0 . 2 5 . 7 of the file
	if diff := cmp.Diff(strings.Fields("rw-s rw-s ---p rw-s rw-s ---p rw-s rw-s ---p rw-s"), lines); diff != "" {
		t.Error("mappings:", diff)
	}
	at := 0
	for _, place := range []int{3, 4, 6, -1, 1, 0, -1, 2, 5, -1, 7} {
		va := c.base.Add(uint64(at) * legacyPage)
		at++
		e, ok := a.Lookup(va)
		if ok != (place >= 0) {
			t.Fatalf("extent %d: found %v, and it is page %d", at-1, ok, place)
		}
		if !ok {
			continue
		}
		pa := memtable.IOVA(legacyFirst) + memtable.IOVA(legacyFrames[place]*legacyPage)
		if e.Offset != int64(place)*legacyPage || e.Addr != pa {
			t.Errorf("extent %d is at offset %d and 0x%x for devices, want page %d", at-1, e.Offset, uint64(e.Addr), place)
		}
		if found, ok := a.ByIOVA(nil).At(pa, legacyPage); !ok || found != va {
			t.Errorf("page %d is found at %v, want %v", place, found, va)
		}
		va.Bytes(1)[0] = byte(place + 1)
		var b [1]byte
		if n, err := unix.Pread(e.FD, b[:], e.Offset); n != 1 || b[0] != byte(place+1) {
			t.Errorf("page %d of the file has %d, %v", place, b[0], err)
		}
		va.Bytes(1)[0] = 0
	}
	if len(c.slots) != at {
		t.Errorf("there are %d extents, want %d", len(c.slots), at)
	}
	// Across pages, as far as they are contiguous.
	if _, ok := a.ByIOVA(nil).At(memtable.IOVA(legacyFirst), 3*legacyPage); !ok {
		t.Error("three pages in one piece are not found as one")
	}
	var offsets []int64
	for _, e := range a.Extents() {
		offsets = append(offsets, e.Offset/legacyPage)
	}
	if !slices.Equal(offsets, []int64{0, 1, 2, 3, 4, 5, 6, 7}) {
		t.Errorf("a walk goes through pages %v", offsets)
	}
}

func TestLegacyModeLendsWhatThereIsAndNeverMore(t *testing.T) {
	a := opened(t, pretend(), legacyOptions())
	w, _ := followed(t, a)
	before := look(t, a)
	zone := func(name string, pages uint64) (*Zone, error) {
		return a.Zone(t.Context(), name, ZoneOptions{Size: pages * legacyPage, Contiguous: true})
	}
	if _, err := zone("four", 4); !isShort(err) || !errors.Is(err, ErrLegacy) {
		t.Errorf("four pages in one piece: %v", err)
	}
	three, err := zone("three", 3)
	if err != nil {
		t.Fatal(err)
	}
	if three.Addr != memtable.IOVA(legacyFirst) || three.VA != a.classes[0].base {
		t.Errorf("three pages in one piece: %+v", three)
	}
	if exact, least := a.Regions(); exact != 2 || least != 2 { // 3 4 | 6: each elsewhere than here
		t.Errorf("a peer needs %d regions, %d at least", exact, least)
	}
	if n := len(w.addresses()); n != 3 {
		t.Errorf("the mirror has %d pages", n)
	}
	h, err := a.Heap("h", HeapOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var all []memtable.Buf
	for {
		b, err := h.Alloc(t.Context(), legacyPage, legacyPage)
		if err != nil {
			if !isShort(err) || !errors.Is(err, ErrLegacy) {
				t.Errorf("more than there is: %v", err)
			}
			break
		}
		b.VA.Bytes(1)[0] = 1
		all = append(all, b)
	}
	if len(all) != len(legacyFrames)-3 {
		t.Errorf("the heap had %d pages", len(all))
	}
	for _, b := range all {
		if err := h.Free(b); err != nil {
			t.Error(err)
		}
	}
	if err := errors.Join(three.Free(), h.Close(), a.users.zones.strict.release(sweepOf(a.users.zones.strict))); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(before, look(t, a)); diff != "" {
		t.Error("after all was given back:", diff)
	}
	for _, e := range a.Extents() {
		if e.VA.Bytes(1)[0] != 0 {
			t.Errorf("the page at %v is not zero", e.VA)
		}
	}
	if _, err := a.Watch(func(Event) {}); !errors.Is(err, ErrLegacy) {
		t.Errorf("watching: %v", err)
	}
	if _, err := a.Validate("v", AnyNode, func(Growth) error { return nil }); !errors.Is(err, ErrLegacy) {
		t.Errorf("validating: %v", err)
	}
	if err := w.check(); err != nil {
		t.Error(err)
	}
}

// sweepOf takes out what a store has to give back.
func sweepOf(s *store) []extents {
	s.mu.Lock()
	defer s.mu.Unlock()
	out, _ := s.chunks.sweep(true)
	return out
}

func TestLegacyModeMapsTheMinimumOrAllThereIs(t *testing.T) {
	for name, c := range map[string]struct {
		minimum      map[int]uint64
		free, really int
		want         uint64 // pages
	}{
		"all":                          {nil, 8, 8, 8},
		"all, and somebody took some":  {nil, 8, 5, 5},
		"a minimum":                    {map[int]uint64{AnyNode: 3 * legacyPage}, 8, 8, 3},
		"a minimum and a bit":          {map[int]uint64{AnyNode: 3*legacyPage + 1}, 8, 8, 4},
		"a minimum that is not there":  {map[int]uint64{AnyNode: 9 * legacyPage}, 8, 8, 0},
		"a minimum that somebody took": {map[int]uint64{AnyNode: 8 * legacyPage}, 8, 7, 0},
		"nothing":                      {nil, 0, 8, 0},
	} {
		t.Run(name, func(t *testing.T) {
			k := pretend()
			k.free, k.really = c.free, c.really
			o := legacyOptions()
			o.Minimum = c.minimum
			a, err := newArena(k, o)
			if c.want == 0 {
				if !isShort(err) || len(memfds(t, o.Name)) > 0 {
					t.Errorf("got %v, files %q", err, memfds(t, o.Name))
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := a.Layout().Classes[0].Mapped; got != c.want*legacyPage {
				t.Errorf("%d bytes are mapped", got)
			}
			finish(t, k.saboteur, a, nil)
		})
	}
}

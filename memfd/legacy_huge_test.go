package memfd

import (
	"context"
	"encoding/binary"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/memtable"
)

// pagemap resolves addresses as the kernel tells who may know.
type pagemap struct{ f *os.File }

func openPagemap(t testing.TB) pagemap {
	t.Helper()
	f, err := os.Open("/proc/self/pagemap")
	if err != nil {
		t.Skip("physical addresses cannot be read:", err)
	}
	t.Cleanup(func() { _ = f.Close() })
	mem := anonymous(t, somePage)
	mem[0] = 1
	w := memtable.Wrap(mem, memtable.FileID{}, 0, nil)
	defer w.Close()
	if pa, _, err := (pagemap{f}).Resolve(w.VA(), 1); err != nil || pa == 0 {
		t.Skip("physical addresses are hidden from who has no CAP_SYS_ADMIN")
	}
	return pagemap{f}
}

func (p pagemap) Resolve(v memtable.VA, n uint64) (memtable.PA, uint64, error) {
	var b [8]byte
	system := uint64(os.Getpagesize())
	at := numberOf(v)
	if _, err := p.f.ReadAt(b[:], int64(at/system*8)); err != nil {
		return 0, 0, err
	}
	frame := binary.LittleEndian.Uint64(b[:]) & (1<<55 - 1)
	return memtable.PA(frame*system + at%system), n, nil // of one huge page at most
}

func TestLegacyModeOrdersRealHugePages(t *testing.T) {
	const page, n = 2 << 20, 32
	resolver := openPagemap(t)
	hugePages(t, page, n)
	for _, mode := range []IOVAMode{IOVAAsVA, IOVAAsPA} {
		unchanged(t, page, func() {
			a, err := New(Options{Name: "legacy", Legacy: true, Pages: []uint64{page}, IOVA: mode, Resolver: resolver,
				Minimum: map[int]uint64{AnyNode: n * page}, Linger: -1})
			if err != nil {
				t.Fatal(err)
			}
			var last memtable.PA
			var end uint64
			runs := 0
			for _, p := range a.classes[0].mapped() {
				runs++
				for i := range p.n {
					one := p.one(i)
					pa, _, err := resolver.Resolve(one.va(), page)
					if err != nil || pa%page != 0 {
						t.Fatalf("%v lies at 0x%x, %v", one.va(), uint64(pa), err)
					}
					follows, touches := pa == last+page, one.addr() == end
					if end != 0 && (pa <= last || follows != touches) {
						t.Errorf("0x%x after 0x%x, and %v has memory in front of it: %v", uint64(pa), uint64(last), one.va(), touches)
					}
					e, _ := a.Lookup(one.va())
					if mode == IOVAAsPA && e.Addr != memtable.IOVA(pa) || mode == IOVAAsVA && e.Addr != memtable.IOVA(one.addr()) {
						t.Errorf("%v at 0x%x has 0x%x for devices", one.va(), uint64(pa), uint64(e.Addr))
					}
					last, end = pa, one.addr()+page
				}
			}
			z, err := a.Zone(t.Context(), "z", ZoneOptions{Size: page, Align: page, Contiguous: true})
			if err != nil {
				t.Fatal(err)
			}
			exact, least := a.Regions()
			t.Logf("IOVA mode %v: %d pages in %d runs, one page shared in %d regions, %d at least", mode, n, runs, exact, least)
			z.VA.Bytes(page)[page-1] = 1
			if err := z.Free(); err != nil {
				t.Error(err)
			}
			if err := a.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// smallPages is the kernel, and fails whoever asks it for a huge page.
type smallPages struct {
	linux
	t *testing.T
}

func (s smallPages) create(name string, flags int) (int, error) {
	if flags&unix.MFD_HUGETLB != 0 {
		s.t.Errorf("a file of huge pages is made: %q, flags 0x%x", name, flags)
	}
	return s.linux.create(name, flags)
}

// onlooker maps what it is told of, as another process would.
type onlooker struct{ maps map[uint64]*memtable.Mapping }

func (p *onlooker) Arrive(_ context.Context, e []memtable.Extent) error {
	for _, x := range e {
		m, err := memtable.MapFile(x.FD, x.Offset, x.Size, memtable.MapOptions{})
		if err != nil {
			return err
		}
		p.maps[numberOf(x.VA)] = m
	}
	return nil
}

func (p *onlooker) Leave(_ context.Context, e []memtable.Extent) error {
	for _, x := range e {
		if err := p.maps[numberOf(x.VA)].Close(); err != nil {
			return err
		}
		delete(p.maps, numberOf(x.VA))
	}
	return nil
}

func TestWithoutHugePagesNoneIsTouchedAndPeersGetTheMemory(t *testing.T) {
	a, err := newArena(smallPages{t: t}, Options{Name: "nohuge", NoHuge: true, Linger: -1})
	if err != nil {
		t.Fatal(err)
	}
	p := &onlooker{make(map[uint64]*memtable.Mapping)}
	stop, err := a.Follow(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	z, err := a.Zone(t.Context(), "z", ZoneOptions{Size: 5 << 20})
	if err != nil {
		t.Fatal(err)
	}
	for off := uint64(0); off < z.Size; off += somePage {
		e, ok := a.Lookup(z.VA.Add(off))
		if !ok || e.Page != uint64(os.Getpagesize()) {
			t.Fatalf("offset %d: %+v", off, e)
		}
		there := p.maps[numberOf(e.VA)].Bytes()
		there[numberOf(z.VA)+off-numberOf(e.VA)] = byte(off>>12) | 1
		if got := z.VA.Add(off).Bytes(1)[0]; got != byte(off>>12)|1 {
			t.Fatalf("offset %d: the peer wrote %d, and it reads %d", off, byte(off>>12)|1, got)
		}
	}
	if err := z.Free(); err != nil {
		t.Error(err)
	}
	if err := stop(t.Context()); err != nil {
		t.Error(err)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	if len(p.maps) > 0 {
		t.Errorf("the peer has %d mappings left", len(p.maps))
	}
}

package memfd

import (
	"fmt"
	"os"

	"github.com/vhostd/vhostd/memtable"
)

// MaskError says that memory lies at an address that devices cannot form: they
// have fewer address bits (Options.AddrBits). It was not taken.
type MaskError struct {
	Addr memtable.IOVA
	Size uint64 // bytes
	Bits int
	Mode IOVAMode
}

func (e *MaskError) Error() string {
	advice := "set Options.Base so that the reservations end below it (4 GiB is a good start for 39 bits)"
	if e.Mode == IOVAAsPA {
		advice = "use an IOMMU (IOVAAsVA), or a NUMA node with memory below it"
	}
	return fmt.Sprintf("%s at IOVA 0x%x cannot be reached with %d address bits: %s", bytesText(e.Size), uint64(e.Addr), e.Bits, advice)
}

// resolve finds out the IOVA of the extents of p, and whether devices can form
// it.
func (a *Arena) resolve(p part, contiguous bool) error {
	c := p.c
	addr, err := a.addresses(p)
	if err != nil {
		return err
	}
	for i := range addr {
		if err := a.reach(addr[i], c.unit); err != nil {
			return err
		}
		if contiguous && i > 0 && addr[i] != addr[i-1]+memtable.IOVA(c.unit) {
			return &ShortageError{What: "physically contiguous memory", Node: c.node, Want: p.size(),
				Have: c.unit, Advice: "use larger pages, or an IOMMU (IOVAAsVA)"}
		}
	}
	i := 0
	a.mark(p, func(s *slot) {
		a.answers++
		s.addr, s.answer = addr[i], a.answers
		i++
	})
	return nil
}

// reach tests whether devices can form the addresses of size bytes from addr on.
// Memory that has no address is no device's.
func (a *Arena) reach(addr memtable.IOVA, size uint64) error {
	last := uint64(addr) + (size - 1)
	if a.o.AddrBits == 0 || addr == memtable.NoIOVA || last>>a.o.AddrBits == 0 && last >= uint64(addr) {
		return nil
	}
	return &MaskError{Addr: addr, Size: size, Bits: a.o.AddrBits, Mode: a.o.IOVA}
}

// addresses asks for the IOVA of each extent of p.
func (a *Arena) addresses(p part) ([]memtable.IOVA, error) {
	addr := make([]memtable.IOVA, p.n)
	if a.o.IOVA == IOVAAsVA {
		for i := range addr {
			addr[i] = memtable.IOVA(p.one(i).addr())
		}
		return addr, nil
	}
	for i := 0; i < p.n; {
		// One answer serves as many extents as are neighbours.
		rest := p.after(i)
		pa, n, err := a.o.Resolver.Resolve(rest.va(), rest.size())
		switch {
		case err != nil:
		case n < p.c.unit:
			err = fmt.Errorf("only %d bytes are in one piece", n)
		case uint64(pa)%uint64(os.Getpagesize()) != 0:
			err = fmt.Errorf("0x%x is not the beginning of a page", uint64(pa))
		}
		if err != nil {
			return nil, fmt.Errorf("the physical address of %v, %s: %w", rest.va(), bytesText(p.c.unit), err)
		}
		for ; i < p.n && n >= p.c.unit; i++ {
			addr[i] = memtable.IOVA(pa)
			pa, n = pa+memtable.PA(p.c.unit), n-p.c.unit
		}
	}
	return addr, nil
}

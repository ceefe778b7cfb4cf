package memfd

import (
	"errors"
	"fmt"
	"testing"

	"github.com/vhostd/vhostd/dma"
)

// realPhysical is an arena of system pages at the addresses that the kernel
// tells.
func realPhysical(t testing.TB, space uint64) *Arena {
	t.Helper()
	p, err := dma.OpenPagemap()
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	if _, _, err := dma.DetectMode(dma.WishPA, dma.Machine{}); errors.Is(err, dma.ErrHidden) {
		t.Skip(err)
	}
	return opened(t, linux{}, Options{Name: "physical", NoHuge: true, Space: space, Linger: -1, IOVA: IOVAAsPA, Resolver: p})
}

func TestAPoolOfRealSystemPagesKnowsEveryPhysicalAddress(t *testing.T) {
	const size = 64 << 20
	a := realPhysical(t, size+8<<20)
	p, err := a.Pool(t.Context(), "p", PoolOptions{Size: 2048, Count: size / 2048})
	if err != nil {
		t.Fatal(err)
	}
	all := a.Extents()
	if len(all) < size/4096 {
		t.Errorf("%d extents", len(all))
	}
	moved, err := a.Recheck(t.Context()) // the kernel may move some
	if err != nil {
		t.Error(err)
	}
	t.Logf("%d extents in %d regions, %d moved", len(all), len(a.ByIOVA(nil).Regions()), len(moved))
	for _, e := range a.Extents() {
		if va, ok := a.ByIOVA(nil).At(e.Addr, e.Size); !ok || va != e.VA || uint64(e.Addr)%4096 != 0 {
			t.Fatalf("the page at %v is at 0x%x, where %v is found", e.VA, e.Addr, va)
		}
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

// BenchmarkPhysicalPages maps system pages, each an extent of its own. A page
// should cost the same however many there are.
func BenchmarkPhysicalPages(b *testing.B) {
	for _, size := range []uint64{4 << 20, 64 << 20} {
		a := realPhysical(b, size)
		pages := float64(size / 4096)
		b.Run(fmt.Sprintf("grow/%d", size>>20), func(b *testing.B) {
			for b.Loop() {
				giveBack(b, a, take(b, a, growth{owner: "b", size: size, node: AnyNode}))
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/pages, "ns/page")
		})
		blk := take(b, a, growth{owner: "b", size: size, node: AnyNode})
		b.Run(fmt.Sprintf("recheck/%d", size>>20), func(b *testing.B) {
			for b.Loop() {
				if _, err := a.Recheck(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/pages, "ns/page")
		})
		giveBack(b, a, blk)
	}
}

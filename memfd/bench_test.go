package memfd

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/memtable"
)

// BenchmarkLookup finds addresses in 1 to 1,000,000 pages of 4 KiB, of which no
// two are neighbours for the device, so each is a region of its own.
func BenchmarkLookup(b *testing.B) {
	for _, pages := range []uint64{1, 512, 1_000_000} {
		o := Options{Space: pages << 12, NoHuge: true, Linger: -1, IOVA: IOVAAsPA, Resolver: scattered{}}
		a := opened(b, paper{}, o)
		blk := take(b, a, growth{owner: "b", size: pages << 12, node: AnyNode})
		first := blk.Addr - memtable.IOVA((pages-1)<<12)
		table := a.ByIOVA(nil)
		b.Run(fmt.Sprintf("iova/%d", pages), func(b *testing.B) {
			at, missed := uint64(0), 0
			for b.Loop() {
				at = (at + 7919<<12) % (pages << 12)
				if _, ok := table.At(first+memtable.IOVA(at), 64); !ok {
					missed++
				}
			}
			if missed > 0 {
				b.Errorf("%d look-ups of %d found nothing", missed, b.N)
			}
			b.ReportMetric(float64(table.Index().Bytes), "index-bytes")
		})
		b.Run(fmt.Sprintf("va/%d", pages), func(b *testing.B) {
			at := uint64(0)
			for b.Loop() {
				at = (at + 7919<<12) % (pages << 12)
				if _, ok := a.Lookup(blk.VA.Add(at)); !ok {
					b.Fatal("not found")
				}
			}
		})
		b.Run(fmt.Sprintf("addr/%d", pages), func(b *testing.B) {
			at := uint64(0)
			for b.Loop() {
				at = (at + 7919<<12) % (pages << 12)
				if _, _, ok := a.Addr(blk.VA.Add(at)); !ok {
					b.Fatal("not found")
				}
			}
		})
		giveBack(b, a, blk)
	}
}

// BenchmarkHugePages maps and unmaps huge pages, and does beside it what the
// kernel must do for them in any case: take, clear and give them back.
func BenchmarkHugePages(b *testing.B) {
	const page = 2 << 20
	for _, n := range []int{1, 512} {
		b.Run(fmt.Sprintf("arena/%d", n), func(b *testing.B) {
			hugePages(b, page, n)
			o := hugeOptions(page)
			o.Space = uint64(n) * page
			a := opened(b, linux{}, o)
			b.SetBytes(int64(n) * page)
			for b.Loop() {
				giveBack(b, a, take(b, a, growth{owner: "b", size: o.Space, node: AnyNode}))
			}
		})
		b.Run(fmt.Sprintf("kernel/%d", n), func(b *testing.B) {
			hugePages(b, page, n)
			fd, err := unix.MemfdCreate("kernel", unix.MFD_CLOEXEC|unix.MFD_HUGETLB|unix.MFD_HUGE_2MB)
			if err != nil {
				b.Fatal(err)
			}
			defer unix.Close(fd)
			b.SetBytes(int64(n) * page)
			for b.Loop() {
				if err := (linux{}).allocate(fd, 0, int64(n)*page, where{node: AnyNode}); err != nil {
					b.Fatal(err)
				}
				if err := (linux{}).punch(fd, 0, int64(n)*page); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

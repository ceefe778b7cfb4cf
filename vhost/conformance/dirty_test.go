package conformance

import (
	"bytes"
	"testing"

	"github.com/vhostd/vhostd/vhost"
)

// Rule 88★ (vhost-user, "Migration"): with LOG_ALL every page that the device writes is marked: headers, data of indirect chains, a status byte at the end.
func TestEveryPageWrittenIsMarked(t *testing.T) {
	f := plug(t, entropy(), logging)
	log := f.log(logBytes)
	r := f.ring(0)
	r.start()
	r.logged()
	before := bytes.Clone(f.mem.b)
	table := r.bytes(5 * page)
	putDesc(table, r.gpa(6*page+40), 12, flagNext|flagWrite, 1)         // a header
	putDesc(table[16:], r.gpa(7*page+100), 5000, flagNext|flagWrite, 2) // data over two pages
	putDesc(table[32:], r.gpa(9*page+4095), 1, flagWrite, 0)            // a status
	r.desc(8, r.gpa(4*page), 16, flagNext, 9)
	r.desc(9, r.gpa(5*page), 48, flagIndirect, 0)
	r.offer(8)
	r.layAt(r.gpa(11*page), page) // a page exactly
	r.ringKick()
	r.returned()
	r.stop()
	written := 0
	for at := 0; at < len(before); at += page {
		driver := at == descAt || at == availAt || at == 5*page // ours to write
		if !driver && !bytes.Equal(before[at:at+page], f.mem.b[at:at+page]) {
			log.marked(t, r.gpa(at))
			written++
		}
	}
	if written != 6 {
		t.Errorf("%d pages were written, want 6", written)
	}
	for _, at := range []int{4, 10, 12} {
		if log.has(r.gpa(at * page)) {
			t.Errorf("page %d is marked, and nothing was written there", at)
		}
	}
}

// Rule 89★ (vhost-user, SET_VRING_ADDR): with flag bit 0 writes to the used ring are marked at the log address, wherever that is, avail_event too; without it they are not.
func TestUsedRingIsMarkedAtItsLogAddress(t *testing.T) {
	f := plug(t, entropy(), logging)
	log := f.log(logBytes)
	r := f.ring(0)
	r.start()
	r.works()
	r.stop()
	if log.has(r.gpa(usedAt)) {
		t.Error("the used ring is marked without the flag")
	}
	for _, c := range []struct {
		name    string
		log     uint64 // of the used ring: its guest address is another
		touched []uint64
	}{
		{"flags and idx end a page", 0x3000 - 4, []uint64{0x2ffc, 0x3000}},
		{"avail_event begins a page", 0x5000 - 4 - 8*ringSize, []uint64{0x4f7c, 0x5000}},
		{"an element crosses", 0x7000 - 4 - 8*2 + 4, []uint64{0x6ff0, 0x7000}},
	} {
		t.Run(c.name, func(t *testing.T) {
			clear(log.b)
			r.start()
			r.loggedAt(c.log)
			r.works()
			r.works()
			r.works()
			r.stop()
			log.marked(t, append(c.touched, r.gpa(dataAt))...)
			for _, gpa := range []uint64{c.touched[0] - page, c.touched[1] + page, r.gpa(usedAt)} {
				if log.has(gpa) {
					t.Errorf("the page of %#x is marked", gpa)
				}
			}
		})
	}
}

// Rule 90 (vhost-user, "Migration"): a write over several pages marks each of them, wherever their bits lie in the log; one that ends with its page marks only that.
func TestWriteOverSeveralPagesMarksEach(t *testing.T) {
	f := plug(t, entropy(), logging)
	log := f.log(logBytes)
	area := newMemory(t, vhost.MemRegion{GPA: 0x4100_0000, UVA: 0x4100_0000 + userShift, Size: 128 * page})
	must(t, f.AddMemReg(area.MemRegion, area.fd))
	r := f.ring(0)
	r.start()
	for _, c := range []struct{ at, n, first, last int }{ // bytes of the area, and its pages
		{8*page - 1, 2, 7, 8},
		{8*page - 100, 100, 7, 7},
		{8 * page, 1, 8, 8},
		{8 * page, page, 8, 8},
		{32*page - 1, 2, 31, 32}, // bits of two words
		{32*page - 7, 64*page + 8, 31, 96},
		{0, 128 * page, 0, 127},
	} {
		clear(log.b)
		r.layAt(uint64(area.GPA)+uint64(c.at), uint32(c.n))
		r.ringKick()
		r.returned()
		r.stop()
		for i := range 129 { // the one behind is no memory
			if want := i >= c.first && i <= c.last; log.has(uint64(area.GPA)+uint64(i*page)) != want {
				t.Fatalf("%d bytes from %#x: page %d is marked: %v", c.n, c.at, i, !want)
			}
		}
		r.start()
	}
}

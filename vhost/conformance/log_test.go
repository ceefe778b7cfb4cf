package conformance

import (
	"bytes"
	"strings"
	"sync"
	"testing"

	"github.com/vhostd/vhostd/vhost"
	"github.com/vhostd/vhostd/virtio"
)

// logBytes is a dirty log for all memory of these tests: a bit for each of the
// guest's pages of 4096 bytes.
const logBytes = 9 * page

// dirtyLog is a dirty log as the front-end sees it.
type dirtyLog struct{ *memory }

// log gives the back-end a fresh log of size bytes.
func (f *front) log(size uint64) dirtyLog {
	f.t.Helper()
	l := dirtyLog{newMemory(f.t, vhost.MemRegion{Size: size + page})} // with a page behind it
	f.acked(vhost.SetLogBase, payloadOf(vhost.LogBase{Size: size}), l.fd)
	return l
}

// has says whether the page of a guest address is marked.
func (l dirtyLog) has(gpa uint64) bool {
	bit := gpa / page
	return load32(l.b[bit/32*4:])>>(bit%32)&1 != 0
}

// marked fails unless the pages of these guest addresses are marked.
func (l dirtyLog) marked(t testing.TB, gpas ...uint64) {
	t.Helper()
	for _, gpa := range gpas {
		if !l.has(gpa) {
			t.Fatalf("the page of %#x is not marked", gpa)
		}
	}
}

// empty says whether no page is marked, from a byte of the log on.
func (l dirtyLog) empty(from int) bool { return bytes.Count(l.b[from:], []byte{0}) == len(l.b)-from }

// logged has the ring's used part logged at its own guest address.
func (r *ring) logged() {
	r.f.t.Helper()
	r.loggedAt(r.gpa(usedAt))
}

// loggedAt has the ring's used part logged at a guest address.
func (r *ring) loggedAt(gpa uint64) {
	r.f.t.Helper()
	a := r.addr()
	a.Flags, a.Log = vhost.VringLog, gpa
	must(r.f.t, r.f.SetVringAddr(a))
}

var logging = options{features: virtio.FeatureLogAll | virtio.FeatureEventIdx | virtio.FeatureIndirect}

// Rule 86★ (vhost-user, SET_LOG_BASE): with LOG_SHMFD agreed on it is answered though no reply is asked for.
func TestLogBaseIsAlwaysAnswered(t *testing.T) {
	f := plug(t, entropy(), options{})
	l := newMemory(t, vhost.MemRegion{Size: logBytes})
	for _, flags := range []uint32{0, needReply} {
		m := f.call(vhost.SetLogBase, flags, payloadOf(vhost.LogBase{Size: logBytes}), l.fd)
		if m.u64(t) != 0 {
			t.Errorf("flags %#x: answered %x", flags, m.payload)
		}
		f.alive() // and once only
	}
}

// Rule 87 (QEMU 7.2 behaviour): a second log takes the place of the first, and what is written meanwhile is in one of the two.
func TestLogIsReplacedWithoutLosingBits(t *testing.T) {
	f := plug(t, entropy(), logging)
	old := f.log(logBytes)
	r := f.ring(0)
	r.start()
	r.logged()
	files := openFiles()
	for i := range 50 {
		gpa := r.gpa((4 + i%12) * page)
		r.layAt(gpa, 100)
		r.ringKick()
		next := f.log(logBytes)
		r.returned()
		if base := r.stop(); base != r.avail {
			t.Fatalf("base %d, want %d", base, r.avail)
		}
		for _, want := range []uint64{gpa, r.gpa(usedAt)} {
			if !old.has(want) && !next.has(want) {
				t.Fatalf("the page of %#x is in neither log", want)
			}
		}
		r.start()
		r.logged()
		clear(next.b)
		old = next
	}
	if n := openFiles() - files - 50; n != 0 { // ours
		t.Errorf("%d more files are open", n)
	}
}

// Rule 91 (vhost-user, "Migration"): bits are set by an atomic or: none is lost when two rings mark neighbouring pages and the front-end clears the log meanwhile.
func TestBitsSurviveConcurrentMarksAndClearing(t *testing.T) {
	f := plug(t, network(), logging)
	log := f.log(logBytes)
	pages := newMemory(t, vhost.MemRegion{GPA: 0x4100_0000, UVA: 0x4100_0000 + userShift, Size: 32 * page})
	must(t, f.AddMemReg(pages.MemRegion, pages.fd))
	at := int(pages.GPA) / page / 32 * 4 // all 32 pages share this word
	rings := []*ring{f.ring(0), f.ring(1)}
	for _, r := range rings {
		r.start()
	}
	for round := range 100 {
		var got uint32
		stop, harvest := make(chan struct{}), sync.WaitGroup{}
		harvest.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					got |= swap32(log.b[at:], 0)
				}
			}
		})
		for i, r := range rings {
			for k := range ringSize {
				r.layAt(uint64(pages.GPA)+uint64(2*k+i)*page, 1)
			}
			r.ringKick()
		}
		for _, r := range rings {
			r.returned()
		}
		eventually(t, "the workers have left", func() bool { return rings[0].idle() && rings[1].idle() })
		close(stop)
		harvest.Wait()
		if got |= swap32(log.b[at:], 0); got != 1<<32-1 {
			t.Fatalf("round %d: bits %032b", round, got)
		}
	}
}

// idle says whether the device has asked for the next kick: it is done with what
// was there. With EVENT_IDX.
func (r *ring) idle() bool { return r.availEvent() == r.avail }

// Rule 92 (vhost-user, SET_LOG_BASE): what lies past the log is not marked and nothing behind the log is written; the connection ends, and with it the migration.
func TestPagesPastTheLogAreNotMarked(t *testing.T) {
	f := plug(t, entropy(), logging)
	s := f.session()
	const size = 0x4000_0000/page/8 + 1 // of our 16 pages the log has bits for the first 8
	log := f.log(size)
	r := f.ring(0)
	r.start()
	for _, at := range []int{4, 7, 8, 9, 15} {
		r.layAt(r.gpa(at*page), 1)
	}
	r.layAt(r.gpa(8*page-1), 2) // half in, half past
	r.ringKick()
	r.returned()
	if err := f.closed(); err == nil || !strings.Contains(err.Error(), "smaller than guest memory") {
		t.Errorf("the session ended because of: %v", err)
	}
	log.marked(t, r.gpa(4*page), r.gpa(7*page))
	if !log.empty(size) {
		t.Error("something behind the log was written")
	}
	if n := r.info(s).Stats.Unlogged; n != 4 {
		t.Errorf("%d writes are counted as not logged, want 4", n)
	}
}

// Rule 94 (vhost-user, "Migration"): when GET_VRING_BASE is answered, all that was written before is marked.
func TestMarksAreVisibleWithTheBase(t *testing.T) {
	f := plug(t, entropy(), logging)
	log := f.log(logBytes)
	r := f.ring(0)
	for range 50 {
		clear(log.b)
		r.start()
		r.logged()
		first := r.avail
		for k := range 12 {
			r.layAt(r.gpa((4+k)*page), 1)
		}
		r.ringKick()
		eventually(t, "some of it is used", func() bool { return r.used() != first })
		base := r.stop()
		for i := first; i != base; i++ {
			log.marked(t, r.gpa((4+int(i-first))*page), r.gpa(usedAt))
		}
		r.startAt(base)
		r.returned()
		r.stop()
	}
}

// Rule 95 (QEMU 7.2 behaviour): LOG_ALL and LOG_SHMFD are offered: without one of them a guest cannot be migrated.
func TestWhatMigrationNeedsIsOffered(t *testing.T) {
	for _, dev := range []vhost.Device{entropy(), network(), withConfig()} {
		f := connect(t, dev)
		offered, err := f.GetFeatures()
		must(t, err)
		protocol, err := f.GetProtocolFeatures()
		must(t, err)
		if !offered.Has(virtio.FeatureLogAll) || !protocol.Has(vhost.ProtocolLogSHMFD) {
			t.Errorf("features %#x, protocol features %#x", uint64(offered), uint64(protocol))
		}
		f.Close()
	}
}

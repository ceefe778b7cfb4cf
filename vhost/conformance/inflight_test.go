package conformance

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/vhost"
	"github.com/vhostd/vhostd/virtio"
)

// recorded is a device that keeps a record of what is in flight.
func recorded() *device {
	d := entropy()
	d.spec.Inflight = true
	return d
}

// inflight is a payload of the two in-flight messages: 2 rings of 16.
var inflight = []byte{23: 0, 16: 2, 18: ringSize}

// record is an in-flight record that the front-end keeps.
type record struct {
	vhost.Inflight
	fd int
	b  []byte
}

// getRecord asks for a record.
func (f *front) getRecord(rings, size uint16) *record {
	f.t.Helper()
	i, fd, err := f.GetInflightFD(rings, size)
	must(f.t, err)
	f.t.Cleanup(func() { unix.Close(fd) })
	b, err := unix.Mmap(fd, int64(i.Offset), int(i.Size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	must(f.t, err)
	f.t.Cleanup(func() { _ = unix.Munmap(b) })
	return &record{i, fd, b}
}

// header writes what a back-end leaves of ring i: its last batch, and the used
// index when it was last whole.
func (r *record) header(i int, size, last, used uint16) {
	at := r.b[uint64(i)*virtio.RecordSize(r.QueueSize):]
	le.PutUint16(at[8:], 1)
	le.PutUint16(at[10:], size)
	le.PutUint16(at[12:], last)
	le.PutUint16(at[14:], used)
}

// taken marks a descriptor of ring 0 as in flight.
func (r *record) taken(head uint16, counter uint64, next uint16) {
	at := r.b[16+16*int(head):]
	at[0] = 1
	le.PutUint16(at[6:], next)
	le.PutUint64(at[8:], counter)
}

// Rule 99 (vhost-user, GET_INFLIGHT_FD): the answer is as long as the request and
// brings one file of zeros, large enough for the rings that were asked for.
func TestGetInflightFDBringsZeros(t *testing.T) {
	f := plug(t, recorded(), options{})
	for _, size := range []int{20, 24} {
		m := f.call(vhost.GetInflightFD, 0, inflight[:size])
		var i vhost.Inflight
		must(t, i.UnmarshalBinary(m.payload))
		if len(m.payload) != size || len(m.fds) != 1 || i.Queues != 2 || i.QueueSize != ringSize || i.Size < 2*(16+16*ringSize) {
			t.Fatalf("a request of %d bytes is answered by %d, %d files, %+v", size, len(m.payload), len(m.fds), i)
		}
		b, err := unix.Mmap(m.fds[0], int64(i.Offset), int(i.Size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		must(t, err)
		for k, v := range b {
			if v != 0 {
				t.Errorf("byte %d is %d", k, v)
			}
		}
		must(t, unix.Munmap(b))
	}
}

// Where no record is kept both messages are refused; GET_INFLIGHT_FD has no
// answer that says no, so its connection ends.
func TestInflightIsRefusedByADeviceWithoutARecord(t *testing.T) {
	if _, protocol := offers(t, network()); protocol.Has(vhost.ProtocolInflightSHMFD) {
		t.Error("INFLIGHT_SHMFD is offered")
	}
	f := plug(t, network(), options{})
	file, gone := f.canary()
	f.nacked(vhost.SetInflightFD, inflight, file)
	gone()
	f.send(vhost.GetInflightFD, needReply, inflight)
	if err := f.closed(); err == nil {
		t.Error("the session ended as if its peer had left")
	}
}

// Rule 100★ (vhost-user, SET_INFLIGHT_FD): it is accepted before any message
// about rings, and what a ring takes and gives back is on the record. While a
// ring runs it is refused.
func TestSetInflightFDComesBeforeRings(t *testing.T) {
	dev := recorded()
	took, goOn := dev.held(t)
	f := plug(t, dev, options{})
	rec := f.getRecord(2, ringSize)
	must(t, f.SetInflightFD(rec.Inflight, rec.fd))
	r := f.ring(0)
	r.start()
	f.refused(f.SetInflightFD(rec.Inflight, rec.fd))
	for range 2 {
		head := r.post()
		receive(t, "a chain", took)
		if rec.b[16+16*int(head)] != 1 {
			t.Errorf("descriptor %d was taken and is not on the record", head)
		}
		goOn <- struct{}{}
		r.returned()
		eventually(t, "the chain is off the record", func() bool {
			return rec.b[16+16*int(head)] == 0 && le.Uint16(rec.b[14:]) == r.used()
		})
	}
}

// Rule 101 (vhost-user, "Inflight I/O tracking"): what came back before the
// back-end died is not done again, although it died before it was off the record.
func TestABatchThatWasPublishedIsNotDoneAgain(t *testing.T) {
	dev := recorded()
	f := plug(t, dev, options{})
	rec := f.getRecord(2, ringSize)
	r := f.ring(0)
	for range 4 {
		r.lay()
	}
	r.setUsed(3)
	rec.header(0, ringSize, 2, 0) // the batch is 2, 1, 0; 3 was taken after it
	for head, next := range []uint16{0, 0, 1, 9} {
		rec.taken(uint16(head), uint64(head)+1, next)
	}
	must(t, f.SetInflightFD(rec.Inflight, rec.fd))
	r.startAt(0)
	r.returned()
	r.works()
	if n := len(dev.got()); n != 2 {
		t.Errorf("%d chains were served, want the one that had not come back and a new one", n)
	}
	if head, _ := r.elem(3); head != 3 {
		t.Errorf("the first to come back is %d", head)
	}
}

// Rule 102★ (vhost-user, "Inflight I/O tracking"): what was in flight is done
// again in the order of its counters, and then the ring goes on behind it: at
// the used index and as many, whatever SET_VRING_BASE says.
func TestRecoveryGoesByTheRecord(t *testing.T) {
	for _, base := range []uint16{0, 2, 4, 5, 9} {
		f := plug(t, recorded(), options{})
		rec := f.getRecord(2, ringSize)
		r := f.ring(0)
		for range 6 {
			r.lay()
		}
		// 3 and 1 came back; 0 and 4 were sent again, so they are younger than 2.
		r.setUsed(2)
		rec.header(0, ringSize, 3, 2)
		rec.taken(0, 1<<40, 0)
		rec.taken(2, 7, 0)
		rec.taken(4, 1<<40+1, 0)
		must(t, f.SetInflightFD(rec.Inflight, rec.fd))
		r.startAt(base)
		r.returned()
		for i, want := range []uint32{2, 0, 4, 5} {
			if head, _ := r.elem(uint16(2 + i)); head != want {
				t.Errorf("told to go on at %d: chain %d came back in place %d, want %d", base, head, i, want)
			}
		}
		r.works()
	}
}

// Rule 103 (vhost-user, SET_INFLIGHT_FD): a record that is shorter than it is
// said to be, or than its rings need, or that was made for others, is refused.
// One that cannot be true breaks its ring and no other.
func TestARecordThatDoesNotFitIsRefused(t *testing.T) {
	f := plug(t, recorded(), options{})
	rec := f.getRecord(2, ringSize)
	other := f.getRecord(2, ringSize)
	other.header(1, ringSize/2, 0, 0)
	short := newFile(t, rec.Size-1)
	need := 2 * virtio.RecordSize(ringSize)
	for _, c := range []struct {
		name string
		vhost.Inflight
		fd int
	}{
		{"shorter than said", vhost.Inflight{Size: rec.Size, Queues: 2, QueueSize: ringSize}, short},
		{"shorter than needed", vhost.Inflight{Size: need - 1, Queues: 2, QueueSize: ringSize}, rec.fd},
		{"past the end", vhost.Inflight{Size: need, Offset: 1 << 40, Queues: 2, QueueSize: ringSize}, rec.fd},
		{"at a negative offset", vhost.Inflight{Size: need, Offset: 1 << 63, Queues: 2, QueueSize: ringSize}, rec.fd},
		{"of any size", vhost.Inflight{Size: 1 << 63, Queues: 2, QueueSize: ringSize}, rec.fd},
		{"without rings", vhost.Inflight{Size: need, QueueSize: ringSize}, rec.fd},
		{"of three rings", vhost.Inflight{Size: need, Queues: 3, QueueSize: 1}, rec.fd},
		{"of an odd size", vhost.Inflight{Size: need, Queues: 1, QueueSize: 15}, rec.fd},
		{"of no descriptors", vhost.Inflight{Size: need, Queues: 1}, rec.fd},
		{"of a ring of another size", other.Inflight, other.fd},
		{"at an odd offset", vhost.Inflight{Size: 64, Offset: 4, Queues: 1, QueueSize: 2}, rec.fd},
	} {
		t.Run(c.name, func(t *testing.T) { f.refused(f.SetInflightFD(c.Inflight, c.fd)) })
	}
	rec.header(0, ringSize, 0, 40_000)
	must(t, f.SetInflightFD(rec.Inflight, rec.fd))
	r, sibling := f.ring(0), f.ring(1)
	r.start()
	f.signalled(r.err)
	sibling.start()
	sibling.works()
}

// Rule 104 (QEMU 7.2): after a reset rings may be of another size or number. The
// record of before is forgotten, a smaller one is refused by the ring that it
// does not fit, and a new one counts.
func TestANewRecordCountsAfterAReset(t *testing.T) {
	f := plug(t, recorded(), options{})
	r := f.ring(0)
	rec := f.getRecord(2, ringSize)
	rec.header(0, ringSize, 0, 0)
	rec.taken(1, 1, 0)
	must(t, f.SetInflightFD(rec.Inflight, rec.fd))
	must(t, f.ResetDevice())
	r.start()
	r.works()
	must(t, f.ResetDevice())

	small := f.getRecord(1, ringSize/2)
	must(t, f.SetInflightFD(small.Inflight, small.fd))
	r.configure()
	f.refused(f.SetVringKick(0, r.kick))
	must(t, f.ResetDevice())

	r.begin(0)
	next := f.getRecord(2, ringSize)
	must(t, f.SetInflightFD(next.Inflight, next.fd))
	r.start()
	r.works()
	eventually(t, "the new record is kept", func() bool { return le.Uint16(next.b[14:]) == 1 })
}

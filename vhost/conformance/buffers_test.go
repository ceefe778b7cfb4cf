package conformance

import (
	"bytes"
	"slices"
	"testing"

	"github.com/vhostd/vhostd/virtio"
)

// Rule 119★ (virtio 1.2, 2.7.5): descriptors are read once: what the driver changes in them, in an indirect table or in the available ring after a chain was taken changes nothing about the chain.
func TestChainIsWhatItWasWhenItWasTaken(t *testing.T) {
	for name, lay := range map[string]func(r *ring){
		"direct": func(r *ring) {
			r.desc(3, r.gpa(dataAt), 100, flagWrite|flagNext, 4)
			r.desc(4, r.gpa(dataAt+1000), 50, flagWrite, 0)
		},
		"indirect": func(r *ring) {
			table := r.table(entry(r.gpa(dataAt), 100, flagWrite|flagNext, 1), entry(r.gpa(dataAt+1000), 50, flagWrite, 0))
			r.desc(3, table, 32, flagIndirect, 0)
		},
	} {
		t.Run(name, func(t *testing.T) {
			dev := entropy()
			took, goOn := dev.held(t)
			f := plug(t, dev, options{features: virtio.FeatureIndirect})
			r := f.ring(0)
			r.start()
			lay(r)
			r.offer(3)
			r.ringKick()
			receive(t, "the chain is taken", took)
			want := bytes.Clone(f.mem.b)
			elsewhere := entry(r.gpa(8*page), 4*page, flagWrite, 0)
			for i := range ringSize {
				copy(r.bytes(descAt)[16*i:], elsewhere[:])
				copy(r.bytes(4 * page)[16*i:], elsewhere[:])
				le.PutUint16(r.bytes(availAt)[4+2*i:], 0xffff)
			}
			goOn <- struct{}{}
			r.returned()
			if id, n := r.elem(0); id != 3 || n != 150 {
				t.Errorf("head %d came back with %d bytes, want 3 with 150", id, n)
			}
			r.stop()
			for _, part := range [][2]int{{dataAt, 100}, {dataAt + 1000, 50}} {
				copy(want[part[0]:][:part[1]], bytes.Repeat([]byte{fill}, part[1]))
			}
			if !bytes.Equal(want[dataAt:4*page], f.mem.b[dataAt:4*page]) || !bytes.Equal(want[8*page:], f.mem.b[8*page:]) {
				t.Error("the device wrote elsewhere than into the buffers that it took")
			}
		})
	}
}

// Rule 121 (virtio 1.2, 2.7.4.2): a chain with a readable descriptor behind a writable one is refused: it comes back with length 0, nothing of it is read or written.
func TestReadableBehindWritableIsRefused(t *testing.T) {
	dev := entropy()
	f := plug(t, dev, options{features: virtio.FeatureIndirect})
	s := f.session()
	r := f.ring(0)
	r.start()
	r.works()
	dev.got()
	for i, flags := range [][]uint16{{flagWrite, 0}, {0, flagWrite, 0}, {flagWrite, 0, flagWrite}} {
		var list [][16]byte
		for k, fl := range flags {
			if k+1 < len(flags) {
				fl |= flagNext
			}
			list = append(list, entry(r.gpa(dataAt+100*k), 100, fl, uint16(k+1)))
		}
		for _, indirect := range []bool{false, true} {
			before := bytes.Clone(r.bytes(dataAt)[:page])
			if indirect {
				r.desc(0, r.table(list...), uint32(16*len(list)), flagIndirect, 0)
			} else {
				copy(r.bytes(descAt), slices.Concat(list[0][:], list[1][:], list[len(list)-1][:]))
			}
			r.offer(0)
			r.ringKick()
			r.returned()
			if id, n := r.elem(r.avail - 1); id != 0 || n != 0 {
				t.Errorf("case %d: head %d with %d bytes", i, id, n)
			}
			if !bytes.Equal(before, r.bytes(dataAt)[:page]) {
				t.Errorf("case %d: a buffer was written", i)
			}
		}
	}
	if got := dev.got(); len(got) != 0 {
		t.Errorf("the device was given %d of the chains", len(got))
	}
	if got := r.info(s).Stats.BadChains["descriptor of the wrong direction"]; got != 6 {
		t.Errorf("%d are counted, want 6", got)
	}
	r.works()
}

// Rule 124 (virtio 1.2, 2.7.8): the used length is what was written into the writable part from its start, no byte more or less, wherever the pieces lie.
func TestUsedLengthIsWhatWasWritten(t *testing.T) {
	dev := entropy()
	writes := make(chan int, 1)
	dev.serve = func(q *virtio.Queue) error {
		for c := range q.Chains() {
			n := <-writes
			_, _ = c.Write(bytes.Repeat([]byte{fill}, n)) // as much as there is room for
			c.Done(n)
		}
		return nil
	}
	f := plug(t, dev, options{})
	r := f.ring(0)
	r.start()
	for _, n := range []int{0, 1, 9, 10, 11, 29, 30, 31, 59, 60, 61, 137, 1000} { // there is room for 60
		r.desc(0, r.gpa(dataAt+1000), 77, flagNext, 1) // readable: does not count
		r.desc(1, r.gpa(dataAt+10), 10, flagWrite|flagNext, 2)
		r.desc(2, r.gpa(dataAt+40), 20, flagWrite|flagNext, 3)
		r.desc(3, r.gpa(dataAt+100), 30, flagWrite, 0)
		clear(r.bytes(dataAt)[:page])
		writes <- n
		r.offer(0)
		r.ringKick()
		r.returned()
		n = min(n, 60)
		if _, got := r.elem(r.avail - 1); got != uint32(n) {
			t.Errorf("%d bytes written, used length %d", n, got)
		}
		if got := bytes.Count(r.bytes(dataAt)[:page], []byte{fill}); got != n {
			t.Errorf("%d bytes are in memory, want %d", got, n)
		}
	}
}

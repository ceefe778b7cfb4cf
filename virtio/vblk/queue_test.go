package vblk_test

import (
	"bytes"
	stdcontext "context"
	"errors"
	"runtime"
	"testing"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio/vblk"
)

// direct opens a disk of which the last queue is the test's.
func direct(o *vblk.Options) { o.Queues, o.Direct = 2, 1 }

// rounds submits a burst and takes it back, n times, asleep in between.
func rounds(tb testing.TB, q *vblk.Queue, rs []vblk.Request, done []vblk.Done, n int) {
	for range n {
		k, err := q.Submit(rs)
		if err != nil || k != len(rs) {
			tb.Fatalf("%d of %d were submitted: %v", k, len(rs), err)
		}
		for k > 0 {
			got := q.Complete(done)
			if k -= got; got == 0 {
				// A context that can end would cost an allocation.
				must(tb, q.Wait(stdcontext.Background()))
			}
		}
	}
}

// collect waits until n requests are done.
func collect(tb testing.TB, q *vblk.Queue, n int) (all []vblk.Done) {
	tb.Helper()
	done := make([]vblk.Done, n)
	for len(all) < n {
		k := q.Complete(done[:n-len(all)])
		if all = append(all, done[:k]...); k == 0 {
			must(tb, q.Wait(context(tb)))
		}
	}
	return all
}

// Requests come back in the order in which the device did them, by token, each
// with its own data.
func TestADirectQueueCarriesManyRequests(t *testing.T) {
	p := newPlatter(4096)
	p.data = noise(len(p.data), 4)
	p.reversed = true
	r := open(t, p.listen(t), direct)
	q := r.Queue(0)
	var rs []vblk.Request
	for i := range 16 {
		rs = append(rs, vblk.Request{
			Type: vblk.TypeIn, Sector: uint64(i) * 3, Bufs: []memtable.Buf{r.buf(t, 512), r.buf(t, 1024)}, Token: uint64(100 + i),
		})
	}
	for range 50 {
		n, err := q.Submit(rs)
		if n != len(rs) {
			t.Fatalf("%d of %d were submitted: %v", n, len(rs), err)
		}
		seen := map[uint64]bool{}
		for _, d := range collect(t, q, n) {
			if d.Err != nil || d.Bytes != 1536 || seen[d.Token] {
				t.Fatalf("%+v came back", d)
			}
			seen[d.Token] = true
			b, at := rs[d.Token-100].Bufs, (d.Token-100)*1536
			if !bytes.Equal(b[0].VA.Bytes(512), p.data[at:at+512]) || !bytes.Equal(b[1].VA.Bytes(1024), p.data[at+512:at+1536]) {
				t.Fatalf("request %d has other data", d.Token)
			}
			clear(b[0].VA.Bytes(512))
		}
	}
}

// A request that one chain cannot carry, or that cannot be, is refused, and those
// before it are not.
func TestSubmitRefusesWhatOneRequestCannotCarry(t *testing.T) {
	p := newPlatter(64)
	p.config.SegMax, p.config.SizeMax = 2, 4096
	r := open(t, p.listen(t), direct)
	q, b := r.Queue(0), r.buf(t, 8192)
	of := func(lens ...uint32) (bufs []memtable.Buf) {
		for _, n := range lens {
			b.Len = n
			bufs = append(bufs, b)
		}
		return bufs
	}
	good := vblk.Request{Type: vblk.TypeIn, Bufs: of(512)}
	for name, c := range map[string]struct {
		r    vblk.Request
		want error
	}{
		"segments":   {vblk.Request{Type: vblk.TypeIn, Bufs: of(512, 512, 512)}, vblk.ErrLimit},
		"size":       {vblk.Request{Type: vblk.TypeIn, Bufs: of(8192)}, vblk.ErrLimit},
		"nothing":    {vblk.Request{Type: vblk.TypeIn}, vblk.ErrAlign},
		"half":       {vblk.Request{Type: vblk.TypeOut, Bufs: of(256)}, vblk.ErrAlign},
		"end":        {vblk.Request{Type: vblk.TypeOut, Sector: 63, Bufs: of(1024)}, vblk.ErrRange},
		"wrap":       {vblk.Request{Type: vblk.TypeOut, Sector: ^uint64(0), Bufs: of(512)}, vblk.ErrRange},
		"flush":      {vblk.Request{Type: vblk.TypeFlush, Bufs: of(512)}, vblk.ErrForm},
		"id":         {vblk.Request{Type: vblk.TypeGetID, Bufs: of(19)}, vblk.ErrForm},
		"discard":    {vblk.Request{Type: vblk.TypeDiscard, Bufs: of(15)}, vblk.ErrForm},
		"type":       {vblk.Request{Type: 99}, vblk.ErrUnsupported},
		"not shared": {vblk.Request{Type: vblk.TypeIn, Bufs: []memtable.Buf{{Addr: 4096, Len: 512}}}, vblk.ErrNotShared},
	} {
		if n, err := q.Submit([]vblk.Request{good, c.r, good}); n != 1 || !errors.Is(err, c.want) {
			t.Errorf("%s: %d submitted, %v", name, n, err)
		}
		if d := collect(t, q, 1); d[0].Err != nil {
			t.Errorf("%s: the one before it: %v", name, d[0].Err)
		}
	}
}

// A ring that is full takes no more and says so by the number.
func TestSubmitTakesWhatThereIsRoomFor(t *testing.T) {
	p := newPlatter(64)
	p.answer = func(vblk.Header, vblk.Status) (vblk.Status, int, bool) { return 0, 0, true }
	r := open(t, p.listen(t), direct)
	q, rs := r.Queue(0), make([]vblk.Request, 40)
	for i := range rs {
		rs[i].Type = vblk.TypeFlush
	}
	if n, err := q.Submit(rs); n != 32 || err != nil {
		t.Fatalf("%d of 40 on a ring of 32, %v", n, err)
	}
	if n, err := q.Submit(rs); n != 0 || err != nil {
		t.Fatalf("%d on a full ring, %v", n, err)
	}
	must(t, r.Close())
	for _, d := range collect(t, q, 32) {
		if d.Err != vblk.ErrClosed {
			t.Errorf("%+v", d)
		}
	}
	if n, err := q.Submit(rs); n != 0 || err != vblk.ErrClosed {
		t.Errorf("%d on a closed disk, %v", n, err)
	}
	if err := q.Wait(t.Context()); err != vblk.ErrClosed {
		t.Errorf("a wait on a closed disk: %v", err)
	}
}

// A request costs no allocation, nor does what its queue does meanwhile; the
// device of this test is counted too, and allocates nothing either.
func TestARequestDoesNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	p := newPlatter(64)
	p.quick = true
	q, rs, done := burst(t, open(t, p.listen(t), direct))
	rounds(t, q, rs, done, 1)
	const bursts = 2000
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	rounds(t, q, rs, done, bursts)
	runtime.ReadMemStats(&after)
	// A timer or a goroutine of the runtime's may allocate now and then.
	if n := after.Mallocs - before.Mallocs; n > 100 {
		t.Errorf("%d allocations over %d requests", n, bursts*len(rs))
	}
}

func BenchmarkDirectQueue(b *testing.B) {
	p := newPlatter(64)
	p.quick = true
	q, rs, done := burst(b, open(b, p.listen(b), direct))
	for b.Loop() {
		rounds(b, q, rs, done, 1)
	}
	b.ReportMetric(float64(b.N*len(rs))/b.Elapsed().Seconds(), "requests/s")
}

// burst gives reads and writes for a direct queue.
func burst(tb testing.TB, r *rig) (*vblk.Queue, []vblk.Request, []vblk.Done) {
	var rs []vblk.Request
	for i := range 16 {
		kind := vblk.TypeIn
		if i%2 == 1 {
			kind = vblk.TypeOut
		}
		rs = append(rs, vblk.Request{Type: kind, Sector: uint64(i), Bufs: []memtable.Buf{r.buf(tb, 512)}, Token: uint64(i)})
	}
	return r.Queue(0), rs, make([]vblk.Done, 16)
}

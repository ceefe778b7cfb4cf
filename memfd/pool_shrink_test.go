package memfd

import (
	"context"
	"errors"
	"testing"

	"github.com/vhostd/vhostd/memtable"
)

// slabs makes a pool of slabs that have 512 buffers each, 512 of them resident.
func slabs(t *testing.T, n int, o PoolOptions) (*Pool, *fake) {
	t.Helper()
	f := newFake(t, ground{4096, slabSize, AnyNode, 2 * n})
	o.Size, o.Count = 4096, 512*n
	p, err := poolOn(t, f, o)
	if err != nil {
		t.Fatal(err)
	}
	return p, f
}

func shrunk(t *testing.T, p *Pool, n, want int) {
	t.Helper()
	if gone, err := p.Shrink(t.Context(), n); err != nil || gone != want {
		t.Fatalf("%d buffers are gone, not %d: %v", gone, want, err)
	}
}

func TestShrinkTakesWholeSlabsAndNoneThatIsResident(t *testing.T) {
	p, f := slabs(t, 4, PoolOptions{Resident: 513})
	shrunk(t, p, 511, 0)
	shrunk(t, p, 1023, 512)
	if f.held() != 3*slabSize || f.taken[3] {
		t.Errorf("taken are %v", f.taken)
	}
	shrunk(t, p, 1<<40, 512)
	shrunk(t, p, 1<<40, 0)
	if st := p.Stats(); st.Resident != 1024 || st.Count != 1024 || st.Free != 1024 {
		t.Errorf("%+v", st)
	}
	if err := p.Grow(t.Context(), 1); err != nil || p.Stats().Resident != 1024 || p.Stats().Count != 1536 {
		t.Errorf("%v, %+v", err, p.Stats())
	}
	if err := p.Close(); err != nil || f.held() != 0 {
		t.Error(err, f.held())
	}
}

func TestWhatComesBackIsLentAgainWhereverItLies(t *testing.T) {
	p, _ := slabs(t, 3, PoolOptions{Cache: 8})
	c := p.Cache()
	all := got(t, c, 3*512)
	for i := range 3 {
		c.Put(all[i*512 : (i+1)*512])
		if copy(all[i*512:], got(t, c, 512)) < 512 || c.Get(make([]memtable.Buf, 1)) != 0 {
			t.Errorf("slab %d: %+v", i, p.Stats())
		}
	}
	c.Put(all)
	if st := p.Stats(); st.Refused != 0 || st.Lent != 0 {
		t.Errorf("%+v", st)
	}
}

func TestShrinkRatherTakesWhatIsNotLent(t *testing.T) {
	p, f := slabs(t, 3, PoolOptions{})
	c := p.Cache()
	all := got(t, c, 3*512)
	c.Put(all[512:1024]) // the one in the middle
	shrunk(t, p, 512, 512)
	if f.taken[1] || !f.taken[0] || !f.taken[2] {
		t.Errorf("taken are %v", f.taken)
	}
	c.Put(all[:512])
	c.Put(all[1024:])
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

func TestShrinkWaitsForWhatIsLentAndNoLongerThanItMay(t *testing.T) {
	p, f := slabs(t, 2, PoolOptions{Resident: 512})
	c := p.Cache()
	b := got(t, c, 300) // not resident: there are others
	before := p.Stats()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	shrink := func() {
		_, err := p.Shrink(ctx, 512)
		done <- err
	}
	go shrink()
	retiring := func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.order[1].retiring.Load()
	}
	eventually(t, "the slab retires", retiring)
	d := p.Cache()
	if rest := make([]memtable.Buf, 2000); d.Get(rest) != 512 {
		t.Error("buffers that retire are lent")
	} else {
		d.Put(rest[:512])
	}
	c.Put(b[:1])
	cancel()
	if err := <-done; !errors.Is(err, ErrBusy) || !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if st := p.Stats(); st.Lent != 299 || st.Count != before.Count || f.held() != 2*slabSize {
		t.Errorf("%+v after %+v", st, before)
	}
	rest := make([]memtable.Buf, 2000)
	n := d.Get(rest)
	if n != 1024-299 {
		t.Errorf("only %d buffers can be lent again", n)
	}
	d.Put(rest[:n])

	ctx = t.Context()
	go shrink()
	eventually(t, "the slab retires", retiring)
	for _, x := range b[1:] {
		d.Put([]memtable.Buf{x}) // through whichever cache
	}
	if err := <-done; err != nil || f.held() != slabSize {
		t.Error(err, f.held())
	}
	if st := p.Stats(); st.Count != 512 || st.Lent != 0 {
		t.Errorf("%+v", st)
	}
}

func TestShrinkFindsBuffersInCachesOfWorkersThatSleep(t *testing.T) {
	p, f := slabs(t, 2, PoolOptions{Cache: 100})
	var sleepers []*Cache
	old := got(t, p.Cache(), 1)
	p.Cache().Put(old)
	for range 8 {
		c := p.Cache()
		c.Put(got(t, c, 100))
		sleepers = append(sleepers, c)
	}
	shrunk(t, p, 1024, 1024)
	if st := p.Stats(); st.Cached != 0 || st.Count != 0 || f.held() != 0 {
		t.Errorf("%+v", st)
	}
	for _, c := range sleepers {
		if n := c.Get(make([]memtable.Buf, 1)); n != 0 {
			t.Error("a buffer is lent that is gone")
		}
	}
	// What comes into the place of a slab is not taken for it.
	if err := p.Grow(t.Context(), 512); err != nil {
		t.Fatal(err)
	}
	b := got(t, sleepers[0], 512)
	sleepers[1].Put(old)
	if st := p.Stats(); st.Refused != 1 || st.Lent != 512 {
		t.Errorf("%+v", st)
	}
	sleepers[0].Put(b)
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

func TestResidentBuffersAreForThoseWhoAskForThem(t *testing.T) {
	p, f := slabs(t, 2, PoolOptions{Resident: 512})
	ring, worker := p.ResidentCache(), p.Cache()
	mine := got(t, worker, 512)
	posted := got(t, ring, 512)
	if n := ring.Get(make([]memtable.Buf, 1)); n != 0 {
		t.Error("a buffer is lent as resident that is not")
	}
	for _, b := range posted {
		if n, _, _ := f.extentOf(b.VA); n != 0 {
			t.Fatalf("%v is not in the resident slab", b.VA)
		}
	}
	// The ring's buffers may stay where they are for ever.
	ring.Put(mine)
	if n := ring.Get(make([]memtable.Buf, 1)); n != 0 {
		t.Error("the cache of resident buffers kept another")
	}
	shrunk(t, p, 512, 512)
	worker.Put(posted)
	if n := len(got(t, worker, 512)); n != 512 {
		t.Error("resident buffers are no use to others")
	}
}

func TestSlabsThatCannotBeTakenBackAreGoneAllTheSame(t *testing.T) {
	p, f := slabs(t, 1, PoolOptions{})
	held := &QuarantineError{Err: errors.New("held")}
	f.parting = func(memtable.VA, uint64) error { return held }
	gone, err := p.Shrink(t.Context(), 512)
	if !errors.Is(err, held) || gone != 512 || p.Stats().Count != 0 {
		t.Errorf("%d are gone, %v, %+v", gone, err, p.Stats())
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

func TestAPoolThatHasBuffersLentDoesNotClose(t *testing.T) {
	p, f := slabs(t, 2, PoolOptions{})
	c := p.Cache()
	b := got(t, c, 1)
	if err := p.Close(); !errors.Is(err, ErrBusy) {
		t.Fatal(err)
	}
	c.Put(append(b, got(t, c, 1000)...)) // it goes on
	if err := p.Close(); err != nil || f.held() != 0 {
		t.Fatal(err, f.held())
	}
	if n := c.Get(b); n != 0 {
		t.Error("a pool that is closed lends")
	}
	c.Put(b)
	c.Close()
	if err := p.Close(); err != nil {
		t.Error("a second time:", err)
	}
}

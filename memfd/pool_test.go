package memfd

import (
	"bytes"
	"context"
	"errors"
	"math"
	"testing"

	"github.com/vhostd/vhostd/memtable"
)

// poolOn makes a pool on a fake, or fails with the error of the first growth.
func poolOn(t testing.TB, f *fake, o PoolOptions) (*Pool, error) {
	t.Helper()
	o.Node = AnyNode
	p, err := newPool(f, "test", o)
	if err != nil {
		return nil, err
	}
	p.leave = func() {}
	return p, p.grow(t.Context(), o.Count, o.Resident)
}

// pooled is a pool on a fake that has as many extents.
func pooled(t testing.TB, units int, o PoolOptions) (*Pool, *fake) {
	t.Helper()
	f := plainFake(t, units)
	p, err := poolOn(t, f, o)
	if err != nil {
		t.Fatal(err)
	}
	return p, f
}

// got gets n buffers.
func got(t testing.TB, c *Cache, n int) []memtable.Buf {
	t.Helper()
	b := make([]memtable.Buf, n)
	if k := c.Get(b); k != n {
		t.Fatalf("there are %d buffers of %d", k, n)
	}
	return b
}

func TestPoolsThatNobodyCanMakeAreErrors(t *testing.T) {
	for name, o := range map[string]PoolOptions{
		"no size": {Count: 1}, "align 48": {Size: 64, Align: 48}, "negative": {Size: 64, Count: -1},
		"more resident than there are": {Size: 64, Count: 1, Resident: 2}, "cache": {Size: 64, Cache: -1},
		"no page is so large": {Size: 5000, Count: 1}, "too many": {Size: math.MaxUint32, Count: math.MaxInt, Straddle: true},
	} {
		f := plainFake(t, 4)
		if _, err := poolOn(t, f, o); !errors.Is(err, ErrSize) || f.held() != 0 {
			t.Errorf("%s: %v, %d bytes are taken", name, err, f.held())
		}
	}
}

func TestGetGivesWhatThereIsAndNeverGrows(t *testing.T) {
	p, f := pooled(t, 8, PoolOptions{Size: 2048, Count: 16, Cache: 4})
	had := f.held()
	c, d := p.Cache(), p.Cache()
	all := got(t, c, 16)
	if n := d.Get(make([]memtable.Buf, 3)); n != 0 {
		t.Errorf("%d buffers more than there are", n)
	}
	if st := p.Stats(); st.Lent != 16 || st.Free != 0 || f.held() != had {
		t.Errorf("%+v", st)
	}
	d.Put(all[:10]) // another worker than the one who got them
	if st := p.Stats(); st.Lent != 6 || st.Free+st.Cached != 10 || st.Cached > 4 {
		t.Errorf("%+v", st)
	}
	c.Put(all[10:])
	c.Close()
	d.Close()
	if st := p.Stats(); st.Free != 16 || st.Cached != 0 {
		t.Errorf("%+v", st)
	}
	if n := c.Get(all); n != 0 {
		t.Errorf("a cache that is closed lends %d buffers", n)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

func TestOnlyBuffersThatAreLentAreTakenBack(t *testing.T) {
	p, f := pooled(t, 8, PoolOptions{Size: 1024, Count: 8})
	other, err := poolOn(t, f, PoolOptions{Size: 1024, Count: 8})
	if err != nil {
		t.Fatal(err)
	}
	c, d := p.Cache(), other.Cache()
	b, foreign := got(t, c, 2), got(t, d, 2)
	refused := uint64(0)
	refuse := func(name string, x memtable.Buf) {
		t.Helper()
		refused++
		c.Put([]memtable.Buf{x})
		if st := p.Stats(); st.Refused != refused || st.Lent != 2 {
			t.Errorf("%s: %+v", name, st)
		}
	}
	refuse("of another pool", foreign[0])
	refuse("nothing", memtable.Buf{})
	for name, token := range map[string]uint64{
		"another gen": b[0].Token + 2<<(placeBits+slotBits), "no such slab": b[0].Token | 0xfff<<placeBits,
		"no such place": b[0].Token | 0xfffff, "all ones": math.MaxUint64,
	} {
		x := b[0]
		x.Token = token
		refuse(name, x)
	}
	outside := b[0]
	outside.VA = outside.VA.Add(1024)
	refuse("behind its end", outside)

	inside := b[0]
	inside.VA, inside.Len, inside.Addr = inside.VA.Add(1023), 1, 0
	c.Put([]memtable.Buf{inside})
	if st := p.Stats(); st.Lent != 1 {
		t.Errorf("a buffer whose data begins later is not taken: %+v", st)
	}
	c.Put(b[:1])
	again := got(t, c, 1)
	if again[0].VA != b[0].VA || again[0].Addr != b[0].Addr || again[0].Cap != b[0].Cap || again[0].Len != 0 {
		t.Errorf("%+v was %+v", again[0], b[0])
	}
	c.Put(b[:1]) // it is lent again, to somebody else
	if st := p.Stats(); st.Refused != refused+2 || st.Lent != 2 {
		t.Errorf("a buffer was taken back twice: %+v", st)
	}
	c.Put(append(again, b[1]))
	d.Put(foreign)
	if err := errors.Join(p.Close(), other.Close()); err != nil {
		t.Error(err)
	}
}

func TestBuffersThatAreGivenBackTwiceAreLentOnce(t *testing.T) {
	p, _ := pooled(t, 8, PoolOptions{Size: 1024, Count: 64, Cache: 8})
	c, d := p.Cache(), p.Cache()
	b := got(t, c, 20)
	c.Put(b)
	d.Put(b)
	c.Put(b)
	c.Close()
	seen := make(map[memtable.VA]bool)
	for _, x := range got(t, d, 64) {
		if seen[x.VA] {
			t.Errorf("%v is lent twice", x.VA)
		}
		seen[x.VA] = true
	}
	if st := p.Stats(); st.Refused != 40 || st.Lent != 64 {
		t.Errorf("%+v", st)
	}
}

func TestAPoolThatCannotGrowIsAsBefore(t *testing.T) {
	p, f := pooled(t, 6, PoolOptions{Size: 2100, Count: 6}) // one in each page: two extents
	before, had := p.Stats(), f.held()
	growths := 0
	f.ask = func(growth) error {
		if growths++; growths == 2 {
			return &RefusedError{By: "the test", Err: errors.New("no")}
		}
		return nil
	}
	// The first growth brings half of what is needed, the second is refused.
	err := p.Grow(t.Context(), 12)
	if _, ok := errors.AsType[*RefusedError](err); !ok || growths != 2 {
		t.Fatalf("%d growths, %v", growths, err)
	}
	if p.Stats() != before || f.held() != had {
		t.Errorf("%+v after %+v, %d bytes after %d", p.Stats(), before, f.held(), had)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p.turn <- struct{}{}
	if err := p.Grow(ctx, 1); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	<-p.turn
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if err := p.Grow(t.Context(), 1); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}

func TestPoolsOfAnArenaHaveNamesAndMirrors(t *testing.T) {
	a := opened(t, linux{}, small())
	w := newWitness(a)
	stop, err := a.Follow(t.Context(), w)
	if err != nil {
		t.Fatal(err)
	}
	p, err := a.Pool(t.Context(), "packets", PoolOptions{Size: 2048, Count: 100, Straddle: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Pool(t.Context(), "packets", PoolOptions{Size: 64, Count: 1}); !errors.Is(err, ErrExists) {
		t.Error(err)
	}
	if n := uint64(len(w.addresses())) * 16 << 10; n != p.Stats().Mapped || n != 208<<10 {
		t.Errorf("the mirror has %d bytes: %+v", n, p.Stats())
	}
	c := p.Cache()
	b := got(t, c, 1)
	copy(b[0].VA.Bytes(4), "data")
	if v, ok := a.ByIOVA(nil).At(b[0].Addr, 4); !ok || !bytes.Equal(v.Bytes(4), []byte("data")) {
		t.Error("the address for devices leads elsewhere")
	}
	w.refuse.Store(true)
	if err := p.Grow(t.Context(), 100); !errors.Is(err, errRefused) {
		t.Error(err)
	}
	if err := a.Close(); !errors.Is(err, ErrBusy) || len(a.Pools()) != 1 {
		t.Error("the arena closed with a buffer lent:", err)
	}
	c.Put(b)
	if err := errors.Join(p.Close(), stop(t.Context()), w.check()); err != nil || len(a.Pools()) != 0 || len(a.Extents()) != 0 {
		t.Errorf("%v, %v, %d extents", err, a.Pools(), len(a.Extents()))
	}
}

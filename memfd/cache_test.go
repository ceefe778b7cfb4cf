package memfd

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/vhostd/vhostd/memtable"
)

func TestGetAndPutMakeNoGarbage(t *testing.T) {
	p, _ := pooled(t, 200, PoolOptions{Size: 2048, Count: 600, Cache: 64})
	c, d := p.Cache(), p.Cache()
	b := make([]memtable.Buf, 500)
	for name, f := range map[string]func(){
		"one":                  func() { c.Put(b[:c.Get(b[:1])]) },
		"a burst":              func() { c.Put(b[:c.Get(b[:32])]) },
		"more than a cache":    func() { c.Put(b[:c.Get(b)]) },
		"from one to another":  func() { d.Put(b[:c.Get(b[:32])]) },
		"and all the way back": func() { c.Put(b[:d.Get(b)]) },
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func TestACacheHoldsNoMoreThanItMay(t *testing.T) {
	p, _ := pooled(t, 200, PoolOptions{Size: 2048, Count: 600, Cache: 64})
	c := p.Cache()
	b := got(t, c, 600)
	for i := 0; i < len(b); i += 7 {
		c.Put(b[i:min(i+7, len(b))])
		if st := p.Stats(); st.Cached > 64 || st.Cached+st.Free+st.Lent != st.Count {
			t.Fatalf("%+v", st)
		}
	}
}

// TestPoolStorm has workers get, mark and put buffers at random, and pass some
// to one another, while the pool grows and shrinks.
func TestPoolStorm(t *testing.T) {
	rounds := 5000
	if testing.Short() {
		rounds = 500
	}
	a := opened(t, linux{}, Options{Name: "test", NoHuge: true, Extent: 2 << 20, Space: 64 << 20, Linger: -1})
	w := newWitness(a)
	stop, err := a.Follow(t.Context(), w)
	if err != nil {
		t.Fatal(err)
	}
	p, err := a.Pool(t.Context(), "storm", PoolOptions{Size: 4000, Count: 500, Resident: 500, Cache: 32})
	if err != nil {
		t.Fatal(err)
	}
	passed := make(chan []memtable.Buf, 4)
	var workers, control sync.WaitGroup
	for i := range uint64(4) {
		workers.Go(func() { juggle(t, p, rand.New(rand.NewPCG(i, 2)), byte(i+1), rounds, passed) })
	}
	ctx, cancel := context.WithCancel(t.Context())
	control.Go(func() {
		for ctx.Err() == nil {
			if err := p.Grow(ctx, 600); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
			p.Stats()
			soon, done := context.WithTimeout(ctx, time.Second)
			if _, err := p.Shrink(soon, 1<<20); err != nil && soon.Err() == nil {
				t.Error(err)
			}
			done()
		}
	})
	workers.Wait()
	cancel()
	control.Wait()
	close(passed)
	c := p.Cache()
	for b := range passed {
		c.Put(b)
	}
	if _, err := p.Shrink(t.Context(), 1<<20); err != nil {
		t.Error(err)
	}
	if st := p.Stats(); st.Lent != 0 || st.Refused != 0 || st.Count != st.Resident || st.Count != 512 {
		t.Errorf("%+v", st)
	}
	if err := errors.Join(p.Close(), stop(t.Context()), w.check()); err != nil || len(a.Extents()) != 0 {
		t.Errorf("%v, %d extents are left", err, len(a.Extents()))
	}
}

func juggle(t *testing.T, p *Pool, r *rand.Rand, mark byte, rounds int, passed chan []memtable.Buf) {
	c := p.Cache()
	defer func() { c.Close() }()
	var mine []memtable.Buf
	room := make([]memtable.Buf, 64)
	for range rounds {
		switch r.IntN(10) {
		case 0:
			c.Close()
			c = p.Cache()
		case 1:
			n := r.IntN(len(mine) + 1)
			checkMarks(t, mine[:n], mark)
			select {
			case passed <- mine[:n:n]:
				mine = mine[n:]
			default:
			}
		case 2:
			select {
			case b := <-passed:
				c.Put(b)
			default:
			}
		case 3, 4, 5:
			n := r.IntN(len(mine) + 1)
			checkMarks(t, mine[:n], mark)
			c.Put(mine[:n])
			mine = mine[n:]
		default:
			n := c.Get(room[:r.IntN(len(room))])
			for _, b := range room[:n] {
				b.VA.Bytes(1)[0], b.VA.Bytes(uint64(b.Cap))[b.Cap-1] = mark, mark
			}
			mine = append(mine, room[:n]...)
		}
	}
	checkMarks(t, mine, mark)
	c.Put(mine)
}

func checkMarks(t *testing.T, all []memtable.Buf, mark byte) {
	for _, b := range all {
		if b.VA.Bytes(1)[0] != mark || b.VA.Bytes(uint64(b.Cap))[b.Cap-1] != mark {
			t.Errorf("somebody wrote into %v", b.VA)
		}
	}
}

// BenchmarkCache gets and puts bursts: through one cache, and from one worker
// to another, which goes through the pool.
func BenchmarkCache(b *testing.B) {
	for _, burst := range []int{1, 32} {
		for _, workers := range []int{1, 2} {
			b.Run(fmt.Sprintf("burst-%d/%dx", burst, workers), func(b *testing.B) {
				p, _ := pooled(b, 2000, PoolOptions{Size: 2048, Count: 8000})
				b.ReportAllocs()
				var all sync.WaitGroup
				for range workers {
					all.Go(func() {
						c, room := p.Cache(), make([]memtable.Buf, burst)
						for range b.N / burst / workers {
							c.Put(room[:c.Get(room)])
						}
					})
				}
				all.Wait()
			})
		}
	}
	b.Run("handed-on", func(b *testing.B) {
		p, _ := pooled(b, 2000, PoolOptions{Size: 2048, Count: 8000})
		c, d, room := p.Cache(), p.Cache(), make([]memtable.Buf, 32)
		for range b.N / len(room) {
			d.Put(room[:c.Get(room)])
		}
	})
}

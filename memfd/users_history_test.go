package memfd

import (
	"context"
	"fmt"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func (s *estate) follow(t *rapid.T) {
	if len(s.mirrors) == 3 {
		return
	}
	w := newWitness(s.a)
	stop, err := s.a.Follow(context.Background(), w)
	if err != nil {
		t.Fatal(err)
	}
	s.mirrors, s.stops = append(s.mirrors, w), append(s.stops, stop)
}

func (s *estate) leave(t *rapid.T) {
	n := len(s.mirrors) - 1
	if n < 0 {
		return
	}
	s.give(t, func() {
		if err := s.stops[n](context.Background()); err != nil {
			t.Fatal(err)
		}
	})
	s.mirrors, s.stops = s.mirrors[:n], s.stops[:n]
}

// check is true at any time: mirrors reach what is shared and lent, and nothing
// that is not shared; nothing is quarantined when nothing fails any more.
func (s *estate) check(t *rapid.T) {
	var shared []uint64
	for _, c := range s.a.Layout().Classes {
		for _, b := range c.Blocks {
			if b.State != "live" && b.State != "idle" {
				t.Fatalf("%+v", b)
			}
			for off := uint64(0); b.Shared && off < b.Size; off += c.Extent {
				shared = append(shared, uint64(b.VA)+off)
			}
		}
	}
	slices.Sort(shared)
	for _, m := range s.mirrors {
		if err := m.check(); err != nil {
			t.Fatal(err)
		}
		if known := m.addresses(); !slices.Equal(known, shared) {
			t.Fatalf("a mirror reaches %x, and %x is shared", known, shared)
		}
	}
}

// end gives all back: the minimum stays, and after Close nothing.
func (s *estate) end(t *rapid.T, floor uint64) {
	s.k.arm(nil)
	for _, b := range s.bufs {
		if err := s.heap.Free(b); err != nil {
			t.Fatal(err)
		}
	}
	for _, z := range s.zones {
		if err := z.Free(); err != nil {
			t.Fatal(err)
		}
	}
	s.cache.Put(s.lent)
	if st := s.pool.Stats(); st.Lent != 0 || st.Refused != 0 {
		t.Fatalf("%+v", st)
	}
	s.sweep()
	if err := s.pool.Close(); err != nil {
		t.Fatal(err)
	}
	if mapped := s.a.Layout().Classes[0].Mapped; mapped != floor {
		t.Fatalf("%d bytes are mapped at the end, for a minimum of %d", mapped, floor)
	}
	for _, stop := range s.stops {
		if err := stop(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.a.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestUsersAndMirrorsAreAsBeforeWhicheverSystemCallFails(t *testing.T) {
	o := small()
	n, lives := 0, 40 // each takes hundreds of looks at the world
	if testing.Short() {
		lives = 10
	}
	rapid.Check(t, func(rt *rapid.T) {
		if n++; n > lives {
			return
		}
		ended := false
		defer func() {
			if !ended {
				lives = math.MaxInt // there is something to find: take the time
			}
		}()
		// What an attempt that failed leaves behind is not mistaken for this one's.
		o.Name = fmt.Sprintf("estate%d", n)
		floor := rapid.Uint64Range(0, 1).Draw(rt, "floor") * o.Extent
		s := newEstate(rt, o, floor)
		rt.Repeat(map[string]func(*rapid.T){
			"alloc": s.alloc(t), "alloc more": s.alloc(t), "zone": s.zone(t), "pool grows": s.more(t),
			"less": s.less, "pool shrinks": s.shrink, "follow": s.follow, "leave": s.leave,
			"": s.check,
		})
		s.end(rt, floor)
		if left := memfds(t, o.Name); len(left) > 0 {
			rt.Fatalf("files are open: %q", left)
		}
		ended = true
	})
}

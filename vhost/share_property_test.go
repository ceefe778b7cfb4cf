package vhost

import (
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio"
)

// refuseNth refuses the n-th change of memory from now on; 0: none.
func refuseNth(r *referee, n int) {
	r.follow(func(m *message) action {
		switch Request(m.Request) {
		case SetMemTable, AddMemReg, RemMemReg:
			n--
			return action{refuse: n == 0}
		}
		return action{}
	})
}

// shareWorld is a front-end whose extents come and go by chance.
type shareWorld struct {
	r      *referee
	s      *supply
	f      *Frontend
	n      int
	acks   bool         // a refusal can be told
	exact  bool         // there are slots enough
	there  map[int]bool // the source's, in use
	doomed map[int]bool // did not leave: mapped and unused
}

// draw picks some extents that do.
func (w *shareWorld) draw(t *rapid.T, do func(i int) bool) []int {
	var from []int
	for i := range w.n {
		if do(i) {
			from = append(from, i)
		}
	}
	if len(from) == 0 {
		t.Skip("there are none")
	}
	return rapid.SliceOfNDistinct(rapid.SampledFrom(from), 1, min(len(from), 4), rapid.ID).Draw(t, "extents")
}

func (w *shareWorld) fault(t *rapid.T) (before []sharedRegion) {
	if w.acks {
		refuseNth(w.r, rapid.IntRange(0, 6).Draw(t, "refused"))
	}
	return w.r.table()
}

func (w *shareWorld) arrive(t *rapid.T) {
	e := w.draw(t, func(i int) bool { return !w.there[i] && !w.doomed[i] })
	before := w.fault(t)
	err := w.s.mirror.Arrive(t.Context(), w.s.pick(e))
	refuseNth(w.r, 0)
	if err != nil {
		if !sameRegions(w.r.table(), before) {
			t.Fatalf("an arrival that failed left %+v of %+v", w.r.table(), before)
		}
		return
	}
	for _, i := range e {
		w.there[i] = true
	}
}

func (w *shareWorld) leave(t *rapid.T) {
	e := w.draw(t, func(i int) bool { return (w.there[i] || w.doomed[i]) && i != 0 })
	w.fault(t)
	err := w.s.mirror.Leave(t.Context(), w.s.pick(e))
	refuseNth(w.r, 0)
	if _, refused := errors.AsType[*RefusedError](err); err != nil && !refused && !errors.Is(err, errHeld) {
		if _, plan := errors.AsType[*memtable.PlanError](err); !plan {
			t.Fatal(err)
		}
	}
	for _, i := range e {
		delete(w.there, i)
		delete(w.doomed, i)
		if err != nil {
			w.doomed[i] = true
		}
	}
}

// lose ends the connection, now and then: coming back takes its time. What the
// next one has is told anew.
func (w *shareWorld) lose(t *rapid.T) {
	if rapid.IntRange(0, 9).Draw(t, "lose") != 9 {
		return
	}
	w.r.last().c.Close()
	for range 2 { // Lost, Back
		<-w.f.Events()
	}
}

// check holds the back-end's table against the source.
func (w *shareWorld) check(t *rapid.T) {
	table := w.r.table()
	var used uint64
	for i, e := range w.s.extents {
		held := slices.IndexFunc(table, func(r sharedRegion) bool { return r.holds(e) })
		if w.there[i] && held < 0 {
			t.Fatalf("extent %d is handed out and not shared", i)
		}
		if shares := w.f.Shares(e.Addr, e.Size); shares != (held >= 0 && (w.there[i] || w.doomed[i])) {
			t.Fatalf("extent %d is shared and in use, or is not, and the driver is told otherwise: %v", i, shares)
		}
		if w.there[i] || w.doomed[i] && held >= 0 {
			used += e.Size
		}
	}
	stats := w.f.Info().Share
	if stats.Shared != sharedBytes(table) || stats.Regions != len(table) {
		t.Fatalf("the back-end has %+v, operators are told %+v", table, stats)
	}
	if w.exact && stats.Shared != used {
		t.Fatalf("%d bytes are shared, %d are used", stats.Shared, used)
	}
	for r, f := range w.s.files(table) {
		if !f {
			t.Fatalf("region %+v is of no file of the source's", r)
		}
	}
}

// files says of each region whether its file is the supply's.
func (s *supply) files(regions []sharedRegion) map[MemRegion]bool {
	all := make(map[MemRegion]bool)
	for _, r := range regions {
		all[r.MemRegion] = r.file == s.extents[0].File
	}
	return all
}

// Whatever comes, goes and is refused, the back-end's table holds what is in
// use, and with slots nothing else; an arrival that fails changes nothing. The
// referee watches that no two regions overlap, and that a ring's memory stays.
func TestShareAnySequenceKeepsTheTableRight(t *testing.T) {
	noLeaks(t)
	s := newSupply(t, 24, 1)
	rapid.Check(t, func(rt *rapid.T) {
		without := rapid.SampledFrom([]ProtocolFeatures{0, ProtocolMemSlots, ProtocolReplyAck}).Draw(rt, "without")
		slots := rapid.SampledFrom([]uint64{6, 64}).Draw(rt, "slots")
		s.there, s.mirror = slices.Clone(s.extents[:1]), nil
		r := newReferee(t, without, func(r *referee) { r.slots = slots })
		f, err := Dial(t.Context(), r.path, FrontendConfig{Memory: s, Timeout: testTimeout})
		ok(t, err)
		defer f.Close()
		ok(t, f.Accept(t.Context(), virtio.FeatureVersion1))
		newHandDriver(f, s, 0, 0).connect(t, 0)
		ok(t, f.Start(t.Context()))
		w := &shareWorld{
			r: r, s: s, f: f, n: 24, there: map[int]bool{0: true}, doomed: map[int]bool{},
			acks: without != ProtocolReplyAck, exact: without != ProtocolMemSlots && slots == 64,
		}
		rt.Repeat(map[string]func(*rapid.T){"arrive": w.arrive, "leave": w.leave, "lose": w.lose, "": w.check})
	})
}

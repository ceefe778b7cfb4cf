package virtiotest

import (
	"math"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio"
)

// Trick is one thing that a hostile driver does. Play adds it; the driver's
// Publish shows it to the device, except where Play did so itself.
type Trick struct {
	Name   string
	Why    string          // the reason a queue gives, as its Stats or its RingError say it
	Breaks bool            // it costs the ring; else only the chain
	Needs  virtio.Features // must have been negotiated
	Lacks  virtio.Features // must not
	Play   func(r Raw) error
}

// Fits says whether the trick is one under the features f.
func (t Trick) Fits(f virtio.Features) bool { return f.Has(t.Needs) && f&t.Lacks == 0 }

// Tricks are what a ring of 4 or more can be tried with, on a queue whose
// device wants chains of direction dir.
func Tricks(dir virtio.Dir) []Trick {
	t := tricks{}
	if dir == virtio.Writable {
		t.good = Write
	}
	list := append(t.links(), t.addresses()...)
	list = append(list, t.tables()...)
	list = append(list, t.directions(dir)...)
	return append(list, t.rings()...)
}

// tricks makes the lists; good are the flags of a descriptor of the right
// direction.
type tricks struct{ good uint16 }

// chain is a trick that lays one chain. A descriptor with address 0 gets a
// buffer of its own.
func (t tricks) chain(name, why string, list ...Desc) Trick {
	return Trick{Name: name, Why: why, Play: func(r Raw) error {
		held := make([]Area, 0, len(list))
		laid := make([]Desc, 0, len(list))
		for _, e := range list {
			if e.Addr == 0 && e.Flags&Indirect == 0 {
				a, err := r.Buffer(max(uint64(min(e.Len, 64)), 1))
				if err != nil {
					return err
				}
				e.Addr, held = a.Addr, append(held, a)
			}
			laid = append(laid, e)
		}
		_, err := r.Chain(laid, held...)
		return err
	}}
}

// links are chains that do not end, or lead out of the table.
func (t tricks) links() []Trick {
	on := t.good | Next
	return []Trick{
		t.chain("a descriptor that follows itself", "chain longer than the ring", Desc{Len: 8, Flags: on, Next: 0}),
		t.chain("a loop of two", "chain longer than the ring", Desc{Len: 8, Flags: on, Next: 1}, Desc{Len: 8, Flags: on, Next: 0}),
		t.chain("next is far beyond the table", "next beyond the table", Desc{Len: 8, Flags: on, Next: math.MaxUint16}),
		t.justBeyond(),
		t.chain("one descriptor without a byte", "chain without a byte", Desc{Len: 0, Flags: t.good}),
		t.chain("a loop without a byte", "chain longer than the ring", Desc{Len: 0, Flags: on, Next: 0}),
		t.chain("indirect that was not negotiated", "indirect was not negotiated", Desc{Addr: page, Len: 16, Flags: Indirect}).lacking(),
	}
}

// justBeyond is a chain whose next is the first index that the table lacks.
func (t tricks) justBeyond() Trick {
	return Trick{Name: "next is the ring's size", Why: "next beyond the table", Play: func(r Raw) error {
		buffer, err := r.Buffer(8)
		if err != nil {
			return err
		}
		_, err = r.Chain([]Desc{{Addr: buffer.Addr, Len: 8, Flags: t.good | Next, Next: r.Size()}}, buffer)
		return err
	}}
}

// lacking is t for a ring without INDIRECT_DESC.
func (t Trick) lacking() Trick {
	t.Lacks = virtio.FeatureIndirect
	return t
}

// addresses are buffers where no memory is.
func (t tricks) addresses() []Trick {
	const why = "address outside guest memory"
	at := func(name string, n uint32, addr func(r Raw) memtable.GPA) Trick {
		return Trick{Name: name, Why: why, Play: func(r Raw) error {
			_, err := r.Chain([]Desc{{Addr: addr(r), Len: n, Flags: t.good}})
			return err
		}}
	}
	return []Trick{
		at("a buffer in a hole", 1, func(r Raw) memtable.GPA { return r.Hole() }),
		at("a buffer one byte too long", 9, func(r Raw) memtable.GPA { return r.Hole() - 8 }),
		at("the longest buffer", math.MaxUint32, func(r Raw) memtable.GPA { return r.Hole() - 8 }),
		at("a buffer that wraps around", 16, func(Raw) memtable.GPA { return math.MaxUint64 - 7 }),
		at("a buffer that wraps around to memory", math.MaxUint32, func(Raw) memtable.GPA { return math.MaxUint64 - page }),
		at("the last byte of all", 1, func(Raw) memtable.GPA { return math.MaxUint64 }),
		t.chain("a good buffer before a bad one", why, Desc{Len: 8, Flags: t.good | Next, Next: 1}, Desc{Addr: math.MaxUint64 - 63, Len: 32, Flags: t.good}),
	}
}

// directions are chains whose descriptors the device cannot use.
func (t tricks) directions(dir virtio.Dir) []Trick {
	const why = "descriptor of the wrong direction"
	if dir == virtio.Both {
		return []Trick{
			t.chain("readable after writable", why, Desc{Len: 8, Flags: Write | Next, Next: 1}, Desc{Len: 8}),
			t.chain("readable after writable, without a byte", why, Desc{Len: 8, Flags: Write | Next, Next: 1}, Desc{Len: 0}),
		}
	}
	return []Trick{
		t.chain("a chain of the wrong direction", why, Desc{Len: 8, Flags: t.good ^ Write}),
		t.chain("a chain that turns around", why, Desc{Len: 8, Flags: t.good | Next, Next: 1}, Desc{Len: 8, Flags: t.good ^ Write}),
	}
}

// rings break the ring.
func (t tricks) rings() []Trick {
	head := func(name string, head func(r Raw) uint16) Trick {
		return Trick{Name: name, Why: virtio.ErrHead.Error(), Breaks: true, Play: func(r Raw) error {
			r.Offer(head(r))
			return nil
		}}
	}
	index := func(name string, by func(r Raw) uint16) Trick {
		return Trick{Name: name, Why: virtio.ErrIndex.Error(), Breaks: true, Play: func(r Raw) error {
			r.Index(r.Added() + by(r))
			return nil
		}}
	}
	return []Trick{
		head("a head one beyond the table", func(r Raw) uint16 { return r.Size() }),
		head("the largest head", func(Raw) uint16 { return math.MaxUint16 }),
		index("an index one further than the ring is long", func(r Raw) uint16 { return r.Size() + 1 }),
		index("an index that goes back", func(Raw) uint16 { return math.MaxUint16 }),
		index("an index half around", func(Raw) uint16 { return 1<<15 + 1 }),
	}
}

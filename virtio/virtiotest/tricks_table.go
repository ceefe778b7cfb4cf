package virtiotest

import (
	"math"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio"
)

// table is a trick with an indirect table. name descriptor and table entries are
// changed by lay before they are written; a good table is one descriptor of 8
// bytes.
func (t tricks) table(name, why string, lay func(r Raw, by *Desc, in *[]Desc)) Trick {
	return Trick{Name: name, Why: why, Needs: virtio.FeatureIndirect, Play: func(r Raw) error {
		buffer, err := r.Buffer(64)
		if err != nil {
			return err
		}
		by := Desc{Flags: Indirect}
		in := []Desc{{Addr: buffer.Addr, Len: 8, Flags: t.good}, {Addr: buffer.Addr + 32, Len: 8, Flags: t.good}}
		lay(r, &by, &in)
		table, err := r.Table(0, in)
		if err != nil {
			return err
		}
		if by.Addr == 0 {
			by.Addr = table.Addr
		}
		_, err = r.Chain([]Desc{by}, buffer, table)
		return err
	}}
}

// tables are indirect tables of bad length, at bad addresses, with bad entries
// (virtio 1.2, 2.7.5.3).
func (t tricks) tables() []Trick {
	return append(t.tableLengths(), t.tableEntries()...)
}

func (t tricks) tableLengths() []Trick {
	long := func(name string, n uint32) Trick {
		return t.table(name, "indirect table of bad length", func(_ Raw, by *Desc, _ *[]Desc) { by.Len = n })
	}
	at := func(name string, addr func(r Raw) memtable.GPA) Trick {
		return t.table(name, "address outside guest memory", func(r Raw, by *Desc, in *[]Desc) {
			(*in)[0].Flags, (*in)[0].Next = (*in)[0].Flags|Next, 1
			by.Addr, by.Len = addr(r), 32
		})
	}
	return []Trick{
		long("a table without a byte", 0),
		long("a table of half a descriptor", 8),
		long("a table of one and a half", 24),
		long("a table that is longer than any ring", 16*(virtio.MaxSize+1)),
		long("the longest table", math.MaxUint32&^15),
		at("a table in a hole", func(r Raw) memtable.GPA { return r.Hole() }),
		at("a table that begins in its region's last bytes", func(r Raw) memtable.GPA { return r.Hole() - 8 }),
		at("a table that wraps around", func(Raw) memtable.GPA { return math.MaxUint64 - 15 }),
		at("a table that wraps around within a descriptor", func(Raw) memtable.GPA { return math.MaxUint64 - 7 }),
	}
}

func (t tricks) tableEntries() []Trick {
	entries := func(name, why string, lay func(in []Desc)) Trick {
		return t.table(name, why, func(_ Raw, by *Desc, in *[]Desc) {
			by.Len = 32
			lay(*in)
		})
	}
	both := t.table("indirect and next in one descriptor", "indirect and next in one descriptor", func(_ Raw, by *Desc, _ *[]Desc) {
		by.Len, by.Flags, by.Next = 16, Indirect|Next, 0
	})
	return []Trick{
		both,
		entries("an indirect table in an indirect table", "indirect inside indirect", func(in []Desc) { in[0].Flags |= Indirect; in[0].Len = 16 }),
		entries("an indirect table at the end of an indirect table", "indirect inside indirect", func(in []Desc) {
			in[0].Flags, in[0].Next = in[0].Flags|Next, 1
			in[1].Flags, in[1].Len = in[1].Flags|Indirect, 16
		}),
		entries("a table's next beyond the table", "next beyond the table", func(in []Desc) { in[0].Flags, in[0].Next = in[0].Flags|Next, 2 }),
		entries("a table's entry that follows itself", "chain longer than the ring", func(in []Desc) { in[0].Flags |= Next }),
		entries("a table's loop", "chain longer than the ring", func(in []Desc) {
			in[0].Flags, in[0].Next = in[0].Flags|Next, 1
			in[1].Flags |= Next
		}),
		entries("a table's entry in a hole", "address outside guest memory", func(in []Desc) { in[0].Addr = math.MaxUint64 - 63 }),
		entries("a table without a byte in it", "chain without a byte", func(in []Desc) { in[0].Len = 0 }),
	}
}

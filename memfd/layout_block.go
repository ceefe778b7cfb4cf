package memfd

// pinned tells whether somebody keeps the pages where they are.
func (s *slot) pinned() bool { return s.pins > 0 }

// amounts says what an extent of n bytes, of which so much is lent, is used for.
func (s *slot) amounts(n, lent uint64) (a Amounts) {
	switch s.state {
	case idle:
		a.Idle = n
	case live:
		a.Used = min(lent, n)
		a.Vacant = n - a.Used
	case quarantined:
		a.Quarantined = n
	case lost:
		a.Lost = n
	default:
		a.Moving = n
	}
	if s.shared {
		a.Shared = n
	}
	if s.pinned() {
		a.Pinned = n
	}
	return a
}

func (a *Amounts) add(b Amounts) {
	a.Used += b.Used
	a.Vacant += b.Vacant
	a.Idle += b.Idle
	a.Moving += b.Moving
	a.Quarantined += b.Quarantined
	a.Lost += b.Lost
	a.Shared += b.Shared
	a.Pinned += b.Pinned
}

// alike tells whether b and o are told as one. How full they are is told in
// eighths, and what is wholly vacant, or wholly used, is not hidden in what is
// partly so.
func (b *BlockLayout) alike(o *BlockLayout) bool {
	return b.State == o.State && b.Owner == o.Owner && b.Node == o.Node && b.Shared == o.Shared && b.Pinned == o.Pinned &&
		(b.Used == 0) == (o.Used == 0) && (b.Vacant == 0) == (o.Vacant == 0) && b.eighths() == o.eighths()
}

// eighths tells how full b is.
func (b *BlockLayout) eighths() uint64 {
	if b.Used == b.Size {
		return 8
	}
	return b.Used / (b.Size/8 + 1)
}

// end is the address behind b.
func (b *BlockLayout) end() Address { return b.VA + Address(b.Size) }

// within tells whether b and o, which comes later, lie within one grain.
func (b *BlockLayout) within(o *BlockLayout, grain uint64) bool {
	return uint64(b.VA)/grain == (uint64(o.VA)+o.Size-1)/grain
}

// join makes b stand for o too, and for the hole before it.
func (b *BlockLayout) join(o *BlockLayout) {
	if hole := b.end() != o.VA; hole || b.State != o.State {
		b.State = Mixed
	}
	if b.Owner != o.Owner {
		b.Owner = ""
	}
	if b.Node != o.Node {
		b.Node = AnyNode
	}
	b.Size = uint64(o.end() - b.VA)
	b.Shared, b.Pinned = b.Shared || o.Shared, b.Pinned || o.Pinned
	b.Amounts.add(o.Amounts)
}

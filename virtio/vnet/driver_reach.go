package vnet

import (
	"sort"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio"
)

// sharer is a transport behind which the device does not reach all memory
// (vhost.Frontend).
type sharer interface {
	// Shares says whether the device reaches n bytes at addr.
	Shares(addr memtable.IOVA, n uint64) bool
}

// reach says whether the device can be told of a buffer. It remembers the
// region that was good last, so that most buffers cost two comparisons.
type reach struct {
	mem    virtio.DriverMemory
	shares sharer // nil: memory that is known is reached
	table  *memtable.Table[memtable.IOVA]
	at     memtable.IOVA
	size   uint64
}

// begin is called before a burst: when memory came or went, what is remembered
// does not count any more.
func (r *reach) begin() {
	if t := r.mem.ByIOVA(nil); t != r.table {
		r.table, r.size = t, 0
	}
}

// has says whether all of the n bytes at addr can be told.
func (r *reach) has(addr memtable.IOVA, n uint32) bool {
	if uint64(n) <= r.size && uint64(addr-r.at) <= r.size-uint64(n) {
		return true
	}
	return r.search(addr, uint64(n))
}

// search is has for an address in another region than the last.
func (r *reach) search(addr memtable.IOVA, n uint64) bool {
	if _, ok := r.table.At(addr, n); !ok || r.shares != nil && !r.shares.Shares(addr, n) {
		return false
	}
	all := r.table.Regions()
	i := sort.Search(len(all), func(i int) bool { return all[i].Addr > addr }) - 1
	// A region that is shared in part is not remembered.
	if g := all[i]; r.shares == nil || r.shares.Shares(g.Addr, g.Size) {
		r.at, r.size = g.Addr, g.Size
	}
	return true
}

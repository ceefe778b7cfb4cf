package memtable_test

import (
	"sync/atomic"

	"github.com/vhostd/vhostd/memtable"
)

func addressOf(v memtable.VA) uintptr { return uintptr(v.Pointer()) }

func atomicLoad(v memtable.VA) uint32 { return atomic.LoadUint32((*uint32)(v.Pointer())) }
func atomicStore(v memtable.VA)       { atomic.StoreUint32((*uint32)(v.Pointer()), 1) }
func atomicOr(v memtable.VA)          { atomic.OrUint32((*uint32)(v.Pointer()), 1) }

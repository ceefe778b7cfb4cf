package vhosttest

import (
	"sync/atomic"
	"unsafe"
)

// load reads flags and idx of a ring's part at an offset.
func (g *Guest) load(off int) (flags, idx uint16) {
	v := atomic.LoadUint32((*uint32)(unsafe.Pointer(&g.mem[off:][:4][0])))
	return uint16(v), uint16(v >> 16)
}

// store publishes flags and idx and gives the idx before.
func (g *Guest) store(off int, flags, idx uint16) (old uint16) {
	v := uint32(flags) | uint32(idx)<<16
	return uint16(atomic.SwapUint32((*uint32)(unsafe.Pointer(&g.mem[off:][:4][0])), v) >> 16)
}

package memfd

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// nodes asks move_pages(2), which moves nothing if it is not told where to.
func (linux) nodes(mem []byte, page uint64, nodes []int32) error {
	at := make([]uint64, len(nodes))
	for i := range at {
		at[i] = addressOf(mem) + uint64(i)*page
	}
	_, _, errno := unix.Syscall6(unix.SYS_MOVE_PAGES, 0, uintptr(len(at)),
		uintptr(unsafe.Pointer(unsafe.SliceData(at))), 0, uintptr(unsafe.Pointer(unsafe.SliceData(nodes))), 0)
	if errno != 0 {
		return os.NewSyscallError("move_pages", errno)
	}
	return nil
}

func (linux) home() (int, error) {
	var node uint32
	_, _, errno := unix.Syscall(unix.SYS_GETCPU, 0, uintptr(unsafe.Pointer(&node)), 0)
	if errno != 0 {
		return AnyNode, os.NewSyscallError("getcpu", errno)
	}
	return int(node), nil
}

package vblk_test

import (
	"bytes"
	stdcontext "context"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/vhostd/vhostd/memfd"
	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/vhost"
	"github.com/vhostd/vhostd/virtio"
	"github.com/vhostd/vhostd/virtio/vblk"
)

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// context ends with the test, before its cleanups.
func context(tb testing.TB) stdcontext.Context {
	return tb.(interface{ Context() stdcontext.Context }).Context()
}

// eventually waits for a condition.
func eventually(tb testing.TB, what string, f func() bool) {
	tb.Helper()
	for end := time.Now().Add(patience); !f(); {
		if time.Now().After(end) {
			tb.Fatalf("%s: not within %v", what, patience)
		}
		runtime.Gosched()
	}
}

// rig is a disk over a socket, and the memory it uses.
type rig struct {
	*vblk.Disk
	front *vhost.Frontend
	heap  *memfd.Heap
}

// open dials the back-end at path. When the test ends all memory must be back.
func open(tb testing.TB, path string, edit func(*vblk.Options)) *rig {
	tb.Helper()
	r, err := tryOpen(tb, path, edit)
	must(tb, err)
	return r
}

func tryOpen(tb testing.TB, path string, edit func(*vblk.Options)) (*rig, error) {
	tb.Helper()
	arena, err := memfd.New(memfd.Options{NoHuge: true, Space: 256 << 20})
	must(tb, err)
	heap, err := arena.Heap("disk", memfd.HeapOptions{Shared: true, Node: memfd.AnyNode})
	must(tb, err)
	front, err := vhost.Dial(context(tb), path, vhost.FrontendConfig{Device: virtio.Block, Memory: arena, Timeout: patience})
	must(tb, err)
	o := vblk.Options{Transport: front, Heap: heap, Memory: arena, Size: 32, Timeout: patience}
	if edit != nil {
		edit(&o)
	}
	d, err := vblk.Open(context(tb), o)
	tb.Cleanup(func() {
		if err != nil {
			must(tb, front.Close())
		} else {
			must(tb, d.Close())
		}
		must(tb, heap.Close()) // refuses while something is lent
		must(tb, arena.Close())
	})
	if err != nil {
		return nil, err
	}
	front.SetPauser(d)
	return &rig{d, front, heap}, nil
}

// buf borrows n bytes from the heap until the test ends.
func (r *rig) buf(tb testing.TB, n int) memtable.Buf {
	tb.Helper()
	b, err := r.heap.Alloc(context(tb), uint64(max(n, 1)), 512)
	must(tb, err)
	b.Len = uint32(n)
	tb.Cleanup(func() {
		must(tb, r.Close())
		must(tb, r.heap.Free(b))
	})
	return b
}

// noise gives n bytes that repeat nowhere.
func noise(n int, seed byte) []byte {
	p := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(p)
	return p
}

// readBack reads n bytes at off and compares them.
func (r *rig) readBack(tb testing.TB, off int64, want []byte) {
	tb.Helper()
	got := make([]byte, len(want))
	_, err := r.ReadAt(got, off)
	must(tb, err)
	if !bytes.Equal(got, want) {
		tb.Fatalf("%d bytes at offset %d were read otherwise than written", len(want), off)
	}
}

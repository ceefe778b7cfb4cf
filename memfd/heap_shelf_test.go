package memfd

import (
	"errors"
	"testing"

	"github.com/vhostd/vhostd/memtable"
)

func TestASmallBufferComesBackToWhoAsksForItsSizeAndIsRefusedTwice(t *testing.T) {
	h := heapOn(plainFake(t, 4), HeapOptions{Node: AnyNode, Shared: true})
	first, other := lend(t, h, 200, 0), lend(t, h, 200, 0)
	freed(t, h, first)
	if err := h.Free(first); !errors.Is(err, ErrFreed) {
		t.Errorf("it was taken back twice: %v", err)
	}
	again := lend(t, h, 256, 0)
	if again.VA != first.VA || again.Token == first.Token || again.Len != 256 || again.Addr != first.Addr {
		t.Errorf("%+v is not %+v, lent anew", again, first)
	}
	if err := h.Free(first); !errors.Is(err, ErrFreed) {
		t.Errorf("an old token frees what is somebody else's: %v", err)
	}
	freed(t, h, again)
	if strict := lend(t, h, 256, 4096); numberOf(strict.VA)%4096 != 0 {
		t.Errorf("%+v is not aligned to 4096", strict)
	} else {
		freed(t, h, strict)
	}
	freed(t, h, other)
}

func TestWhatLiesOnTheShelfIsNoReasonToGrow(t *testing.T) {
	f := plainFake(t, 1)
	h := heapOn(f, HeapOptions{Node: AnyNode})
	var all []memtable.Buf
	for range fakeUnit / 512 {
		all = append(all, lend(t, h, 512, 0))
	}
	for _, b := range all {
		freed(t, h, b)
	}
	// All of it, of which the half was shelved in pieces, and as much again.
	whole := lend(t, h, fakeUnit, 0)
	if f.held() != fakeUnit {
		t.Errorf("%d bytes are taken", f.held())
	}
	freed(t, h, whole)
	part := lend(t, h, 1024, 0)
	behind := lend(t, h, 64, 0)
	freed(t, h, behind)
	if larger, err := h.Realloc(t.Context(), part, 4096, 0); err != nil || larger.VA != part.VA {
		t.Errorf("what is free behind a buffer is no room for it: %v, %v", larger, err)
	} else {
		freed(t, h, larger)
	}
	if got := h.Stats(); got.Greatest != fakeUnit || got.Used != 0 {
		t.Errorf("when all is free: %+v", got)
	}
	if err := h.Close(); err != nil || f.held() != 0 {
		t.Errorf("%d bytes are left: %v", f.held(), err)
	}
}

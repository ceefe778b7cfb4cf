package memfd

import (
	"bytes"
	"errors"
	"math"
	"testing"

	"github.com/vhostd/vhostd/memtable"
)

func TestReallocStaysWhereItCan(t *testing.T) {
	h, _ := plainHeap(t, 8)
	a, b, c := lend(t, h, 1024, 0), lend(t, h, 1024, 0), lend(t, h, 1024, 0)
	text := []byte("what was written stays")
	copy(a.VA.Bytes(1024), text)
	move := func(from memtable.Buf, n, align uint64) (memtable.Buf, bool) {
		t.Helper()
		to, err := h.Realloc(t.Context(), from, n, align)
		if err != nil || !bytes.Equal(to.VA.Bytes(uint64(len(text))), text) || uint64(to.Len) != n {
			t.Fatalf("%+v, %v", to, err)
		}
		if err := h.Free(from); err == nil {
			t.Fatal("a buffer that was reallocated can be freed by its old token")
		}
		return to, to.VA != from.VA
	}
	freed(t, h, b)
	a, moved := move(a, 2048, 0)
	if moved {
		t.Error("it moved although there was room behind it")
	}
	if a, moved = move(a, 100, 0); moved {
		t.Error("it moved to become smaller")
	}
	if a, moved = move(a, 2048, 64); moved {
		t.Error("it moved although it had been as large there before")
	}
	if a, moved = move(a, 2049, 0); !moved {
		t.Error("it stayed although there was too little room behind it")
	}
	to := uint64(128)
	for numberOf(a.VA)%to == 0 {
		to *= 2
	}
	if a, moved = move(a, 2049, to); !moved || numberOf(a.VA)%to != 0 {
		t.Errorf("it is at %v, and was to be aligned to %d", a.VA, to)
	}
	fresh, err := h.Realloc(t.Context(), memtable.Buf{}, 100, 0)
	if err != nil {
		t.Fatal(err)
	}
	freed(t, h, a, c, fresh)
	if err := errors.Join(audit(h.store), h.Close()); err != nil {
		t.Error(err)
	}
}

func TestReallocThatFailsLeavesTheBufferAsItWas(t *testing.T) {
	h, _ := plainHeap(t, 1)
	a, b := lend(t, h, 1000, 0), lend(t, h, 64, 0)
	copy(a.VA.Bytes(4), "text")
	if _, err := h.Realloc(t.Context(), a, 2000+fakeUnit, 0); err == nil {
		t.Fatal("there was no room")
	}
	if string(a.VA.Bytes(4)) != "text" {
		t.Error("contents are gone")
	}
	freed(t, h, a, b)
}

func TestOnlyWhatIsLentIsTakenBack(t *testing.T) {
	h, f := plainHeap(t, 4)
	other := heapOn(f, HeapOptions{Node: AnyNode})
	a, b, foreign := lend(t, h, 256, 0), lend(t, h, 256, 0), lend(t, other, 256, 0)
	moved, forged := a, a
	moved.VA = a.VA.Add(64)
	forged.Token += 1 << 32
	outside := a
	outside.Token = math.MaxUint64
	for name, x := range map[string]struct {
		buf  memtable.Buf
		want error
	}{
		"nothing": {memtable.Buf{}, ErrForeign}, "of another heap": {foreign, ErrForeign},
		"moved": {moved, ErrFreed}, "another token": {forged, ErrFreed}, "no token": {outside, ErrFreed},
	} {
		if err := h.Free(x.buf); !errors.Is(err, x.want) {
			t.Errorf("%s: %v", name, err)
		}
		if x.buf.VA.IsNil() {
			continue // Realloc allocates
		}
		if _, err := h.Realloc(t.Context(), x.buf, 64, 0); !errors.Is(err, x.want) {
			t.Errorf("%s, by Realloc: %v", name, err)
		}
	}
	freed(t, h, a)
	if err := h.Free(a); !errors.Is(err, ErrFreed) {
		t.Error("a second time:", err)
	}
	again := lend(t, h, 256, 0)
	if again.VA != a.VA {
		t.Fatal("the test needs the same memory again")
	}
	if err := h.Free(a); !errors.Is(err, ErrFreed) {
		t.Error("a second time, when it is somebody else's:", err)
	}
	freed(t, h, again, b)
	freed(t, other, foreign)
	if err := errors.Join(h.Close(), other.Close()); err != nil {
		t.Fatal(err)
	}
	if err := h.Free(b); !errors.Is(err, ErrForeign) {
		t.Error("after the end:", err)
	}
}

package memfd

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vhostd/vhostd/memtable"
)

// device is a mirror that has a device's view of memory: what arrived cannot
// move.
type device struct{ *witness }

func (device) Pins() bool { return true }

// attached lets a device follow a.
func attached(t *testing.T, a *Arena) (device, func(context.Context) error) {
	t.Helper()
	d := device{newWitness(a)}
	stop, err := a.Follow(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.check(); err != nil {
			t.Error(err)
		}
	})
	return d, stop
}

// pinnedBytes counts what extents and look-ups call pinned.
func pinnedBytes(t *testing.T, a *Arena) (n uint64) {
	t.Helper()
	for _, e := range a.Extents() {
		if found, ok := a.Lookup(e.VA); ok && found.Pinned != e.Pinned {
			t.Errorf("the extent at %v is pinned: %v, says a look-up; %v, say Extents", e.VA, found.Pinned, e.Pinned)
		}
		if e.Pinned {
			n += e.Size
		}
	}
	return n
}

func TestMemoryIsPinnedForAsLongAsADeviceReachesIt(t *testing.T) {
	a := opened(t, linux{}, small())
	first := take(t, a, growth{owner: "first", size: 32 << 10, node: AnyNode, shared: true})
	private := take(t, a, growth{owner: "private", size: 16 << 10, node: AnyNode})
	followed(t, a) // who pins nothing
	if n := pinnedBytes(t, a); n != 0 {
		t.Errorf("%d bytes are pinned and there is no device", n)
	}
	one, stopOne := attached(t, a)
	_, stopTwo := attached(t, a)
	later := take(t, a, growth{owner: "later", size: 16 << 10, node: AnyNode, shared: true})
	if n := pinnedBytes(t, a); n != 48<<10 {
		t.Errorf("%d bytes are pinned, and the devices reach 48 KiB", n)
	}
	giveBack(t, a, later)
	if err := stopTwo(t.Context()); err != nil {
		t.Error(err)
	}
	if n := pinnedBytes(t, a); n != 32<<10 {
		t.Errorf("%d bytes are pinned, and one device reaches 32 KiB", n)
	}
	one.holdOn.Store(true)
	if err := stopOne(t.Context()); err == nil || pinnedBytes(t, a) != 32<<10 {
		t.Errorf("after a device did not let go (%v) %d bytes are pinned", err, pinnedBytes(t, a))
	}
	one.holdOn.Store(false)
	if err := stopOne(t.Context()); err != nil || pinnedBytes(t, a) != 0 {
		t.Errorf("after the last device let go (%v) %d bytes are pinned", err, pinnedBytes(t, a))
	}
	giveBack(t, a, first)
	giveBack(t, a, private)
}

func TestPinnedMemoryThatMovedIsALieAndIsToldAsOne(t *testing.T) {
	a, f := physical(t, linux{})
	b := take(t, a, growth{owner: "b", size: 16 << 10, node: AnyNode, shared: true})
	_, stop := attached(t, a)
	free := take(t, a, growth{owner: "free", size: 4 << 10, node: AnyNode})
	was, _, _ := a.Addr(b.VA)
	f.move(b.VA)
	f.move(free.VA)
	moved, err := a.Recheck(t.Context())
	lie, ok := errors.AsType[*MovedError](err)
	if !ok || lie.VA != b.VA || lie.Was != was || lie.Now == was || len(moved) != 1 || moved[0].VA != free.VA {
		t.Errorf("moved: %v, %v", moved, err)
	}
	if now, _, _ := a.Addr(b.VA); now != was {
		t.Errorf("a device knows 0x%x, and look-ups 0x%x", was, now)
	}
	if err := stop(t.Context()); err != nil {
		t.Error(err)
	}
	if moved, err := a.Recheck(t.Context()); err != nil || len(moved) != 1 {
		t.Errorf("once nobody pins it: %v, %v", moved, err)
	}
	truthful(t, a, f)
	giveBack(t, a, b)
	giveBack(t, a, free)
}

func TestAPinThatCameTooLateIsNoPin(t *testing.T) {
	a, f := physical(t, linux{})
	b := take(t, a, growth{owner: "b", size: 16 << 10, node: AnyNode, shared: true})
	f.move(b.VA.Add(4096))
	before := look(t, a)
	late := device{newWitness(a)}
	if _, err := a.Follow(t.Context(), late); !isMoved(err) || len(late.addresses()) > 0 {
		t.Errorf("a device that pins what has moved: %v, and it reaches %x", err, late.addresses())
	}
	if diff := cmp.Diff(before, look(t, a)); diff != "" || pinnedBytes(t, a) > 0 {
		t.Error(diff)
	}
	if _, err := a.Recheck(t.Context()); err != nil {
		t.Fatal(err)
	}
	d, _ := attached(t, a)

	before = look(t, a, d.witness)
	d.arrive = func(_ context.Context, e []memtable.Extent) { f.move(e[0].VA) }
	_, err := a.grow(t.Context(), growth{owner: "c", size: 8 << 10, node: AnyNode, shared: true})
	if _, refused := errors.AsType[*RefusedError](err); !refused || !isMoved(err) {
		t.Errorf("growing while pages move: %v", err)
	}
	if diff := cmp.Diff(before, look(t, a, d.witness)); diff != "" {
		t.Error(diff)
	}
	giveBack(t, a, b)
}

func TestADeviceThatDoesNotLetGoOfWhatMovedIsAskedAgain(t *testing.T) {
	a, f := physical(t, linux{})
	b := take(t, a, growth{owner: "b", size: 8 << 10, node: AnyNode, shared: true})
	f.move(b.VA)
	d := device{newWitness(a)}
	d.holdOn.Store(true)
	if _, err := a.Follow(t.Context(), d); !isMoved(err) || !errors.Is(err, errHeld) {
		t.Errorf("Follow: %v", err)
	}
	if err := a.release(t.Context(), b.VA, b.Size); !errors.Is(err, errHeld) {
		t.Errorf("releasing what the device reaches: %v", err)
	}
	d.holdOn.Store(false)
	if err := a.Reclaim(t.Context()); err != nil || len(d.addresses()) > 0 {
		t.Errorf("reclaiming: %v, and the device reaches %x", err, d.addresses())
	}
	if err := d.check(); err != nil {
		t.Error(err)
	}
}

func isMoved(err error) bool { _, moved := errors.AsType[*MovedError](err); return moved }

func TestWhatIsPinnedByHandStaysUntilItIsUnpinned(t *testing.T) {
	a, f := physical(t, linux{})
	b := take(t, a, growth{owner: "b", size: 16 << 10, node: AnyNode})
	unpin, err := a.Pin(b.VA.Add(4000), 200) // the ends of two pages
	if err != nil {
		t.Fatal(err)
	}
	if n := pinnedBytes(t, a); n != 8<<10 {
		t.Errorf("%d bytes are pinned", n)
	}
	err = a.release(t.Context(), b.VA, b.Size)
	if q, ok := errors.AsType[*QuarantineError](err); !ok || !errors.Is(err, ErrBusy) || q.Size != b.Size {
		t.Errorf("releasing what is pinned: %v", err)
	}
	if err := a.Close(); !errors.Is(err, ErrBusy) {
		t.Errorf("Close: %v", err)
	}
	unpin()
	unpin() // counts once
	if err := a.Reclaim(t.Context()); err != nil || len(a.Extents()) > 0 {
		t.Errorf("after it was unpinned: %v, %v", err, a.Extents())
	}
	c := take(t, a, growth{owner: "c", size: 4 << 10, node: AnyNode})
	f.move(c.VA)
	if _, err := a.Pin(c.VA, 1); !isMoved(err) || pinnedBytes(t, a) != 0 {
		t.Errorf("pinning what has moved: %v", err)
	}
	for what, n := range map[string]uint64{"nothing": 0, "more than there is": 8 << 10, "around 2^64": 1<<64 - 1} {
		if _, err := a.Pin(c.VA, n); err == nil || isMoved(err) || pinnedBytes(t, a) != 0 {
			t.Errorf("pinning %s: %v", what, err)
		}
	}
	giveBack(t, a, c)
}

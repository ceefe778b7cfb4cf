package memfd

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vhostd/vhostd/memtable"
)

// followed lets a new mirror follow a. The test fails on whatever it saw.
func followed(t *testing.T, a *Arena) (*witness, func(context.Context) error) {
	t.Helper()
	w := newWitness(a)
	stop, err := a.Follow(t.Context(), w)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.check(); err != nil {
			t.Error(err)
		}
	})
	return w, stop
}

func TestAMirrorHearsOfWhatIsSharedAndOfNothingElse(t *testing.T) {
	a := opened(t, linux{}, small())
	before := take(t, a, growth{owner: "before", size: 32 << 10, node: AnyNode, shared: true})
	secret := take(t, a, growth{owner: "secret", size: 16 << 10, node: AnyNode})
	w, stop := followed(t, a)
	after := take(t, a, growth{owner: "after", size: 16 << 10, node: AnyNode, shared: true})

	want := []uint64{numberOf(before.VA), numberOf(before.VA) + 16<<10, numberOf(after.VA)}
	if diff := cmp.Diff(want, w.addresses()); diff != "" {
		t.Error("what the mirror can reach:", diff)
	}
	giveBack(t, a, secret)
	giveBack(t, a, before)
	if diff := cmp.Diff(want[2:], w.addresses()); diff != "" {
		t.Error("after a release:", diff)
	}
	if err := stop(t.Context()); err != nil {
		t.Error(err)
	}
	if got := w.addresses(); len(got) > 0 {
		t.Errorf("after stop it can reach %x", got)
	}
	giveBack(t, a, after)
}

func TestAMirrorThatRefusesStopsTheGrowthAndTheOthersLetGo(t *testing.T) {
	a := opened(t, linux{}, small())
	held := take(t, a, growth{owner: "held", size: 32 << 10, node: AnyNode, shared: true})
	good, _ := followed(t, a)
	bad, _ := followed(t, a)
	before := look(t, a, good, bad)
	bad.refuse.Store(true)
	_, err := a.grow(t.Context(), growth{owner: "new", size: 64 << 10, node: AnyNode, shared: true})
	if _, ok := errors.AsType[*RefusedError](err); !ok || !errors.Is(err, errRefused) {
		t.Errorf("growing: %v", err)
	}
	if diff := cmp.Diff(before, look(t, a, good, bad)); diff != "" {
		t.Error("after the refusal:", diff)
	}
	private := take(t, a, growth{owner: "private", size: 16 << 10, node: AnyNode})
	giveBack(t, a, private)
	giveBack(t, a, held)
}

// Between being told that a mirror does not let go and believing it, the mirror
// may have been stopped: then nobody else takes the memory back.
func TestMemoryIsTakenBackFromAMirrorThatIsStoppedAsItLeaves(t *testing.T) {
	a := opened(t, linux{}, small())
	before := look(t, a)
	first, stop := followed(t, a)
	second, stopSecond := followed(t, a)
	b := take(t, a, growth{owner: "b", size: 32 << 10, node: AnyNode, shared: true})
	failing, calls := make(chan struct{}), 0
	first.leave = func() {
		calls++
		if first.holdOn.Store(calls == 1); calls == 1 {
			close(failing)
		}
	}
	second.leave = func() {
		<-failing
		if err := stop(context.Background()); err != nil {
			t.Error(err)
		}
	}
	giveBack(t, a, b)
	if err := stopSecond(t.Context()); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(before, look(t, a)); diff != "" {
		t.Error("when it is gone:", diff)
	}
}

func TestAMirrorThatRefusesTheFirstExtentsIsNotFollowed(t *testing.T) {
	a := opened(t, linux{}, small())
	b := take(t, a, growth{owner: "b", size: 16 << 10, node: AnyNode, shared: true})
	w := newWitness(a)
	w.refuse.Store(true)
	if _, err := a.Follow(t.Context(), w); !errors.Is(err, errRefused) {
		t.Errorf("Follow: %v", err)
	}
	c := take(t, a, growth{owner: "c", size: 16 << 10, node: AnyNode, shared: true})
	giveBack(t, a, b)
	giveBack(t, a, c)
	if err := w.check(); err != nil {
		t.Error(err)
	}
}

func TestWhatAMirrorHoldsOnToIsQuarantinedUntilItLetsGo(t *testing.T) {
	a := opened(t, linux{}, small())
	w, stop := followed(t, a)
	b := take(t, a, growth{owner: "b", size: 32 << 10, node: AnyNode, shared: true})
	b.VA.Bytes(1)[0] = 42

	w.holdOn.Store(true)
	err := a.release(t.Context(), b.VA, b.Size)
	if q, ok := errors.AsType[*QuarantineError](err); !ok || !errors.Is(err, errHeld) || q.Size != b.Size {
		t.Fatalf("release: %v", err)
	}
	// Mapped, and not handed out: the peer may still write there.
	if _, ok := a.Lookup(b.VA); !ok || b.VA.Bytes(1)[0] != 42 {
		t.Error("what is quarantined is not mapped")
	}
	other := take(t, a, growth{owner: "other", size: 16 << 10, node: AnyNode})
	if other.VA == b.VA {
		t.Error("what is quarantined was handed out")
	}
	giveBack(t, a, other)
	if runs := a.Runs(); len(runs) > 0 {
		t.Errorf("what is quarantined is offered for sharing: %v", runs)
	}
	if err := a.Close(); !errors.Is(err, ErrBusy) && !errors.Is(err, errHeld) {
		t.Errorf("Close: %v", err)
	}
	if err := stop(t.Context()); !errors.Is(err, errHeld) {
		t.Errorf("stop: %v", err)
	}
	// A mirror that is about to stop hears of nothing new.
	late := take(t, a, growth{owner: "late", size: 16 << 10, node: AnyNode, shared: true})
	if n := len(w.addresses()); n != 2 {
		t.Errorf("a mirror that was stopped reaches %d extents, want the 2 that it holds", n)
	}
	giveBack(t, a, late)

	w.holdOn.Store(false)
	if err := stop(t.Context()); err != nil {
		t.Error("stop again:", err)
	}
	if _, ok := a.Lookup(b.VA); ok {
		t.Error("after the mirror let go the memory is still mapped")
	}
}

func TestNobodyIsHandedMemoryBeforeEveryMirrorHasIt(t *testing.T) {
	a := opened(t, linux{}, small())
	slow, _ := followed(t, a)
	entered, goOn := make(chan struct{}), make(chan struct{})
	slow.arrive = func(context.Context, []memtable.Extent) {
		close(entered)
		<-goOn
	}
	grown := make(chan *block)
	go func() {
		b, err := a.grow(context.Background(), growth{owner: "b", size: 16 << 10, node: AnyNode, shared: true})
		if err != nil {
			t.Error(err)
		}
		grown <- b
	}()
	<-entered
	// No lock is held meanwhile: everything else goes on.
	p := take(t, a, growth{owner: "private", size: 16 << 10, node: AnyNode})
	giveBack(t, a, p)
	if runs := a.Runs(); len(runs) > 0 {
		t.Errorf("memory that a mirror has not accepted is in use: %v", runs)
	}
	select {
	case <-grown:
		t.Fatal("memory was handed out before the mirror had it")
	default:
	}
	// Who follows now hears of what is on its way as well, once.
	late, _ := followed(t, a)
	close(goOn)
	b := <-grown
	if diff := cmp.Diff(slow.addresses(), late.addresses()); diff != "" {
		t.Error("the mirrors know different things:", diff)
	}
	giveBack(t, a, b)
}

func TestAGrowthThatIsGivenUpDoesNotWaitForAMirror(t *testing.T) {
	a := opened(t, linux{}, small())
	slow, _ := followed(t, a)
	entered, goOn := make(chan struct{}, 1), make(chan struct{})
	slow.arrive = func(context.Context, []memtable.Extent) {
		entered <- struct{}{}
		<-goOn
	}
	done := make(chan *block)
	go func() {
		b, err := a.grow(context.Background(), growth{owner: "first", size: 1, node: AnyNode, shared: true})
		if err != nil {
			t.Error(err)
		}
		done <- b
	}()
	<-entered
	ctx, cancel := context.WithCancel(t.Context())
	second := make(chan error)
	go func() {
		_, err := a.grow(ctx, growth{owner: "second", size: 1, node: AnyNode, shared: true})
		second <- err
	}()
	cancel()
	if err := <-second; !errors.Is(err, context.Canceled) {
		t.Errorf("a growth that was given up: %v", err)
	}
	close(goOn)
	giveBack(t, a, <-done)
}

func TestMirrorsComeAndGoWhileMemoryDoes(t *testing.T) {
	o := small()
	o.Space = 4 << 20
	a := opened(t, linux{}, o)
	_, stopLast := followed(t, a)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 40 {
				b, err := a.grow(t.Context(), growth{owner: "w", size: uint64(i%3+1) * 16 << 10, node: AnyNode, shared: true})
				if err != nil {
					t.Error(err)
					return
				}
				b.VA.Bytes(b.Size)[b.Size-1] = 1
				if err := a.release(t.Context(), b.VA, b.Size); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 2 {
		wg.Go(func() {
			for range 40 {
				w := newWitness(a)
				stop, err := a.Follow(t.Context(), w)
				if err != nil {
					t.Error(err)
					return
				}
				if err := errors.Join(stop(t.Context()), w.check()); err != nil {
					t.Error(err)
				}
				if left := w.addresses(); len(left) > 0 {
					t.Errorf("a mirror that was stopped can reach %x", left)
				}
			}
		})
	}
	wg.Wait()
	if err := stopLast(t.Context()); err != nil {
		t.Error(err)
	}
}

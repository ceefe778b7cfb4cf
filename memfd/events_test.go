package memfd

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/memtable"
)

func TestEventsComeInOrderAndWhoHearsThemMayLook(t *testing.T) {
	a := opened(t, linux{}, small())
	var heard []string
	note := func(format string, args ...any) { heard = append(heard, fmt.Sprintf(format, args...)) }
	w, _ := followed(t, a)
	w.arrive = func(_ context.Context, e []memtable.Extent) { note("the mirror has %d", len(e)) }
	remove := watch(t, a, func(e Event) {
		_, mapped := a.Lookup(e.Extents[0].VA)
		note("%v %d, mapped %v", e.Kind, len(e.Extents), mapped)
		a.Layout()
	})
	if _, err := a.Validate("v", AnyNode, func(g Growth) error {
		note("may %s have %d of %d", g.Owner, g.Size, g.Total)
		a.Layout()
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	b := take(t, a, growth{owner: "b", size: 32 << 10, node: AnyNode, shared: true})
	giveBack(t, a, b)
	remove()
	giveBack(t, a, take(t, a, growth{owner: "c", size: 1, node: AnyNode}))
	want := []string{
		"may b have 32768 of 32768", "the mirror has 2", "allocated 2, mapped true",
		"leaving 2, mapped true", "gone 2, mapped false", "may c have 16384 of 16384",
	}
	if diff := cmp.Diff(want, heard); diff != "" {
		t.Error(diff)
	}
}

func TestAValidatorSeesTheTotalThatWouldBeAndCanRefuse(t *testing.T) {
	a := opened(t, linux{}, small())
	no := errors.New("no more than 48 KiB")
	remove, err := a.Validate("cap", AnyNode, func(g Growth) error {
		if g.Total > 48<<10 {
			return no
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Validate("cap", AnyNode, func(Growth) error { return nil }); err == nil {
		t.Error("two validators of one name")
	}
	if _, err := a.Validate("other", 3, func(Growth) error { return errors.New("not asked") }); err != nil {
		t.Error(err)
	}
	b := take(t, a, growth{owner: "b", size: 32 << 10, node: AnyNode})
	before := look(t, a)
	if _, err := a.grow(t.Context(), growth{owner: "c", size: 17 << 10, node: AnyNode}); !errors.Is(err, no) {
		t.Errorf("growing: %v", err)
	}
	if diff := cmp.Diff(before, look(t, a)); diff != "" {
		t.Error("after the refusal:", diff)
	}
	giveBack(t, a, take(t, a, growth{owner: "c", size: 16 << 10, node: AnyNode}))
	remove()
	giveBack(t, a, take(t, a, growth{owner: "c", size: 64 << 10, node: AnyNode}))
	giveBack(t, a, b)
}

func TestTheLimitIsInclusiveAndCountsWhatIsOnItsWay(t *testing.T) {
	o := small()
	o.Limit = map[int]uint64{AnyNode: 64 << 10}
	a := opened(t, linux{}, o)
	b := take(t, a, growth{owner: "b", size: 64 << 10, node: AnyNode})
	_, err := a.grow(t.Context(), growth{owner: "c", size: 1, node: AnyNode})
	short, ok := errors.AsType[*ShortageError](err)
	if !ok || short.Want != 16<<10 || short.Have != 0 {
		t.Fatalf("one extent over the limit: %v", err)
	}
	giveBack(t, a, b)

	// Within a validator the growth that it is asked about is on its way.
	remove, err := a.Validate("v", AnyNode, func(g Growth) error {
		if g.Owner == "outer" {
			_, err = a.grow(t.Context(), growth{owner: "inner", size: 32 << 10, node: AnyNode})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	defer remove()
	outer := take(t, a, growth{owner: "outer", size: 48 << 10, node: AnyNode})
	if _, ok := errors.AsType[*ShortageError](err); !ok {
		t.Errorf("48 KiB on their way and 32 KiB more: %v", err)
	}
	giveBack(t, a, outer)
}

func TestTheMinimumIsThereFromTheStartAndStays(t *testing.T) {
	o := small()
	o.Minimum = map[int]uint64{AnyNode: 40 << 10} // three extents
	o.Limit = map[int]uint64{AnyNode: 64 << 10}
	a := opened(t, linux{}, o)
	if n := a.Layout().Classes[0].Mapped; n != 48<<10 {
		t.Fatalf("%d bytes are mapped at the start", n)
	}
	asked := 0
	if _, err := a.Validate("v", AnyNode, func(Growth) error { asked++; return nil }); err != nil {
		t.Fatal(err)
	}
	b := take(t, a, growth{owner: "b", size: 32 << 10, node: AnyNode})
	if asked != 0 {
		t.Error("a validator was asked about memory that was there before")
	}
	clearToOnes(b)
	c := take(t, a, growth{owner: "c", size: 32 << 10, node: AnyNode})
	giveBack(t, a, b)
	giveBack(t, a, c)
	if n := a.Layout().Classes[0].Mapped; n != 48<<10 {
		t.Errorf("%d bytes are mapped after all was given back", n)
	}
	d := take(t, a, growth{owner: "d", size: 48 << 10, node: AnyNode})
	for i, x := range d.VA.Bytes(d.Size) {
		if x != 0 {
			t.Fatalf("byte %d reads %d", i, x)
		}
	}
	giveBack(t, a, d)
}

// clearToOnes writes to all of b.
func clearToOnes(b *block) {
	mem := b.VA.Bytes(b.Size)
	for i := range mem {
		mem[i] = 1
	}
}

// watch is Arena.Watch where it must not fail.
func watch(t testing.TB, a *Arena, f func(Event)) (remove func()) {
	t.Helper()
	remove, err := a.Watch(f)
	if err != nil {
		t.Error(err)
		return func() {}
	}
	return remove
}

func TestMemoryIsToldToBeGoneBeforeItIsAnybodysAgain(t *testing.T) {
	for name, minimum := range map[string]uint64{"what goes": 0, "what stays for the minimum": 16 << 10} {
		t.Run(name, func(t *testing.T) {
			o := small()
			o.Minimum = map[int]uint64{AnyNode: minimum}
			a := opened(t, linux{}, o)
			b := take(t, a, growth{owner: "b", size: 16 << 10, node: AnyNode})
			var other *block
			watch(t, a, func(e Event) {
				if e.Kind == Gone && other == nil {
					other = take(t, a, growth{owner: "other", size: 16 << 10, node: AnyNode})
				}
			})
			giveBack(t, a, b)
			if other == nil || other.VA == b.VA {
				t.Errorf("%v was not gone for all, and is allocated again", b.VA)
			}
			giveBack(t, a, other)
		})
	}
}

func TestOnlyWhatCannotGoIsNotToldToBeGone(t *testing.T) {
	o := small()
	o.Minimum = map[int]uint64{AnyNode: 16 << 10}
	k := new(saboteur)
	a := opened(t, k, o)
	b := take(t, a, growth{owner: "b", size: 32 << 10, node: AnyNode})
	var gone []memtable.VA
	watch(t, a, func(e Event) {
		for _, x := range e.Extents {
			if e.Kind == Gone {
				gone = append(gone, x.VA)
			}
		}
	})
	k.arm(unix.ENOMEM, 1) // hide
	if _, ok := errors.AsType[*QuarantineError](a.release(t.Context(), b.VA, b.Size)); !ok || len(gone) != 1 || gone[0] != b.VA {
		t.Errorf("gone are %v, and the one of %v that stays for the minimum is to be", gone, b.VA)
	}
	k.arm(nil)
	if err := a.Reclaim(t.Context()); err != nil || len(gone) != 2 {
		t.Errorf("gone are %v after all: %v", gone, err)
	}
}

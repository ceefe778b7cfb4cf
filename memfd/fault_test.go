package memfd

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// furnished makes an arena that has been in use: a minimum, a block, a hole
// before another block, and two mirrors.
func furnished(t *testing.T) (*saboteur, *Arena, []*witness, []*block) {
	t.Helper()
	k := new(saboteur)
	o := small()
	o.Minimum = map[int]uint64{AnyNode: 32 << 10}
	a, err := newArena(k, o)
	if err != nil {
		t.Fatal(err)
	}
	mirrors := []*witness{newWitness(a), newWitness(a)}
	for _, m := range mirrors {
		if _, err := a.Follow(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	first := take(t, a, growth{owner: "first", size: 64 << 10, node: AnyNode, shared: true})
	hole := take(t, a, growth{owner: "hole", size: 16 << 10, node: AnyNode})
	last := take(t, a, growth{owner: "last", size: 32 << 10, node: AnyNode})
	giveBack(t, a, hole)
	return k, a, mirrors, []*block{first, last}
}

// finish closes an arena after all that was done to it, and sees what is left.
func finish(t *testing.T, k *saboteur, a *Arena, mirrors []*witness, blocks ...*block) {
	t.Helper()
	k.arm(nil)
	for _, b := range blocks {
		giveBack(t, a, b)
	}
	if err := a.Close(); err != nil {
		t.Error("closing:", err)
	}
	if left := memfds(t, a.o.Name); len(left) > 0 {
		t.Errorf("files that are still open: %q", left)
	}
	for _, m := range mirrors {
		if err := m.check(); err != nil {
			t.Error(err)
		}
	}
}

func TestGrowingThatFailsAtAnySystemCallChangesNothing(t *testing.T) {
	for _, errno := range []error{unix.ENOMEM, unix.ENOSPC, unix.EPERM} {
		var hits []string
		for k := 1; ; k++ {
			kernel, a, mirrors, blocks := furnished(t)
			before := look(t, a, mirrors...)
			kernel.arm(errno, k)
			b, err := a.grow(t.Context(), growth{owner: "new", size: 48 << 10, node: AnyNode, shared: true})
			if len(kernel.failed()) == 0 {
				if err != nil {
					t.Fatal("nothing failed, but growing did:", err)
				}
				finish(t, kernel, a, mirrors, append(blocks, b)...)
				break
			}
			hits = append(hits, kernel.failed()...)
			if !errors.Is(err, errno) {
				t.Errorf("call %d (%v) failed with %v, growing with %v", k, kernel.failed(), errno, err)
			}
			if diff := cmp.Diff(before, look(t, a, mirrors...)); diff != "" {
				t.Errorf("after call %d (%v) failed with %v:\n%s", k, kernel.failed(), errno, diff)
			}
			finish(t, kernel, a, mirrors, blocks...)
		}
		if want := []string{"allocate", "mapFile", "undump"}; !cmp.Equal(hits[:3], want) {
			t.Errorf("the calls that failed were %q, want %q first", hits, want)
		}
	}
}

func TestTheFirstGrowthThatFailsLeavesNoFile(t *testing.T) {
	var hits []string
	for k := 1; ; k++ {
		kernel := new(saboteur)
		a := opened(t, kernel, small())
		before := look(t, a)
		kernel.arm(unix.EMFILE, k)
		b, err := a.grow(t.Context(), growth{owner: "new", size: 1, node: AnyNode})
		if len(kernel.failed()) == 0 {
			kernel.arm(nil)
			giveBack(t, a, b)
			break
		}
		hits = append(hits, kernel.failed()...)
		if err == nil {
			t.Fatalf("call %v failed and growing did not", kernel.failed())
		}
		if diff := cmp.Diff(before, look(t, a)); diff != "" {
			t.Errorf("after %v failed:\n%s", kernel.failed(), diff)
		}
		kernel.arm(nil)
	}
	want := []string{"create", "seal", "identify", "allocate", "mapFile", "undump"}
	if diff := cmp.Diff(want, hits); diff != "" {
		t.Error("the calls that failed:", diff)
	}
}

func TestOpeningThatFailsAtAnySystemCallLeavesNothing(t *testing.T) {
	for k := 1; ; k++ {
		kernel := new(saboteur)
		kernel.arm(unix.ENOMEM, k)
		o := small()
		o.Name, o.Minimum = "opening", map[int]uint64{AnyNode: 32 << 10}
		a, err := newArena(kernel, o)
		if len(kernel.failed()) == 0 {
			if err != nil {
				t.Fatal(err)
			}
			finish(t, kernel, a, nil)
			return
		}
		if err == nil {
			t.Errorf("%v failed and New did not", kernel.failed())
		}
		if left := memfds(t, o.Name); len(left) > 0 {
			t.Errorf("after %v failed, files are open: %q", kernel.failed(), left)
		}
	}
}

func TestReleasingThatFailsQuarantinesAndCanBeTriedAgain(t *testing.T) {
	release := func(t *testing.T, ks ...int) (world, []string) {
		kernel, a, mirrors, blocks := furnished(t)
		kernel.arm(unix.ENOMEM, ks...)
		err := a.release(t.Context(), blocks[0].VA, blocks[0].Size)
		hits := kernel.failed()
		quarantine, isQuarantine := errors.AsType[*QuarantineError](err)
		switch {
		case len(hits) == 0 && err != nil:
			t.Fatal(err)
		case len(hits) > 0 && (!isQuarantine || !errors.Is(err, unix.ENOMEM)):
			t.Errorf("%v failed, and the error is %v", hits, err)
		case len(hits) > 0:
			if s := stateAt(a, quarantine); !strings.Contains(s, "quarantined") {
				t.Errorf("after %v failed the extents are %s", hits, s)
			}
		}
		kernel.arm(nil)
		if err := a.Reclaim(t.Context()); err != nil {
			t.Errorf("after %v failed, reclaiming: %v", hits, err)
		}
		after := look(t, a, mirrors...)
		finish(t, kernel, a, mirrors, blocks[1])
		return after, hits
	}
	want, _ := release(t)
	// Addresses differ from arena to arena: compare what does not name them.
	var all []string
	for k := 1; ; k++ {
		got, hits := release(t, k)
		if len(hits) == 0 {
			break
		}
		all = append(all, hits...)
		if diff := cmp.Diff([][]string{want.Files, want.Maps}, [][]string{got.Files, got.Maps}); diff != "" {
			t.Errorf("after %v failed and was tried again:\n%s", hits, diff)
		}
	}
	if !slices.Contains(all, "hide") || !slices.Contains(all, "punch") {
		t.Errorf("the calls that failed were %q, want hide and punch among them", all)
	}
}

// stateAt tells how Layout shows what an error is about.
func stateAt(a *Arena, q *QuarantineError) string {
	var s []string
	for _, c := range a.Layout().Classes {
		for _, b := range c.Blocks {
			if at := uint64(b.VA); at < numberOf(q.VA)+q.Size && numberOf(q.VA) < at+b.Size {
				s = append(s, b.State)
			}
		}
	}
	return strings.Join(s, ",")
}

func TestAddressSpaceThatCannotBePutBackIsNeverTouchedAgain(t *testing.T) {
	k := new(saboteur)
	a := opened(t, k, small())
	// allocate, mapFile and hide after create, seal and identify.
	k.arm(unix.ENOMEM, 5, 6)
	if _, err := a.grow(t.Context(), growth{owner: "torn", size: 32 << 10, node: AnyNode}); err == nil {
		t.Fatal("growing succeeded")
	}
	if diff := cmp.Diff([]string{"mapFile", "hide"}, k.failed()); diff != "" {
		t.Fatal(diff)
	}
	k.arm(nil)
	c := a.classes[0]
	if files := memfds(t, a.o.Name); len(files) != 0 {
		t.Errorf("the pages stay: %q", files)
	}
	b := take(t, a, growth{owner: "next", size: 16 << 10, node: AnyNode})
	if b.VA != c.base.Add(32<<10) {
		t.Errorf("the next extent is at %v, not behind what was lost at %v", b.VA, c.base)
	}
	if got := a.Layout().Classes[0].Blocks[0]; got.State != "lost" || got.Size != 32<<10 {
		t.Errorf("the layout shows %+v", got)
	}
	giveBack(t, a, b)
}

func TestPagesThatCannotBeGivenBackAfterAFailureAreQuarantined(t *testing.T) {
	k := new(saboteur)
	a := opened(t, k, small())
	k.arm(unix.ENOSPC, 4, 5) // allocate, and the punch that undoes it
	_, err := a.grow(t.Context(), growth{owner: "half", size: 32 << 10, node: AnyNode})
	if _, ok := errors.AsType[*ShortageError](err); !ok {
		t.Errorf("growing: %v", err)
	}
	if files := memfds(t, a.o.Name); len(files) != 1 {
		t.Fatalf("files: %q, want the one with the pages", files)
	}
	k.arm(nil)
	if err := a.Reclaim(context.Background()); err != nil {
		t.Error(err)
	}
	if files := memfds(t, a.o.Name); len(files) != 0 {
		t.Errorf("the pages stay: %q", files)
	}
}

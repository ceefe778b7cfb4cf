package memfd

import (
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// fromFourGiB are options for an arena whose place is known: low enough for
// devices of 39 bits, and where neither the Go heap nor shared libraries go.
func fromFourGiB() Options {
	o := small()
	o.Base = 4<<30 + 1
	o.Nodes = []int{AnyNode, 0}
	return o
}

func TestReservationsBeginAtTheBaseOneAfterAnother(t *testing.T) {
	for range 2 { // the address space comes back
		a, err := New(fromFourGiB())
		if err != nil {
			t.Fatal(err)
		}
		want := []uint64{4<<30 + 16<<10, 4<<30 + 16<<10 + 1<<20}
		var got []uint64
		for _, c := range a.Layout().Classes {
			got = append(got, uint64(c.VA))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		b := take(t, a, growth{owner: "b", size: 16 << 10, node: AnyNode})
		if b.VA.Bytes(1)[0] = 1; numberOf(b.VA) != want[0] {
			t.Errorf("the first extent is at %v", b.VA)
		}
		giveBack(t, a, b)
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestABaseThatIsTakenIsAnErrorAndWhatIsThereStays(t *testing.T) {
	a := opened(t, linux{}, fromFourGiB())
	b := take(t, a, growth{owner: "b", size: 16 << 10, node: AnyNode})
	defer giveBack(t, a, b)
	b.VA.Bytes(1)[0] = 42
	before := look(t, a)

	for _, base := range []uint64{4 << 30, 4<<30 - 1<<20, 1 << 63, 1<<64 - 1} {
		o := fromFourGiB()
		o.Base, o.Name = base, "other"
		_, err := New(o)
		if err == nil {
			t.Fatalf("two arenas at 0x%x", base)
		}
		if short, ok := errors.AsType[*ShortageError](err); ok && errors.Is(err, unix.EEXIST) != (base < 1<<47) {
			t.Errorf("at 0x%x: %v (%s)", base, err, short.Advice)
		}
	}
	if diff := cmp.Diff(before, look(t, a)); diff != "" || b.VA.Bytes(1)[0] != 42 {
		t.Errorf("what was there has %d: %s", b.VA.Bytes(1)[0], diff)
	}
}

func TestReservingAtABaseThatFailsLeavesNoAddressSpace(t *testing.T) {
	var hits []string
	for k := 1; ; k++ {
		kernel := new(saboteur)
		kernel.arm(unix.EEXIST, k)
		a, err := newArena(kernel, fromFourGiB())
		if len(kernel.failed()) == 0 {
			if err != nil {
				t.Fatal(err)
			}
			finish(t, kernel, a, nil)
			break
		}
		if hits = append(hits, kernel.failed()...); err == nil {
			t.Fatalf("%v failed and New did not", kernel.failed())
		}
	}
	if !slices.Equal(hits, []string{"reserve", "reserve"}) {
		t.Errorf("the calls that failed were %q", hits)
	}
}

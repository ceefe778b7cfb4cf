package memfd

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestASecondaryThatCannotMapRollsTheGrowthBackEverywhere(t *testing.T) {
	n := served(t, small(), PrimaryOptions{})
	held := take(t, n.a, growth{owner: "held", size: 32 << 10, node: AnyNode, shared: true})
	good, _ := followed(t, n.a)
	all := []*pupil{n.attached("first"), n.attached("second"), n.attached("last")}
	before := look(t, n.a, good)
	var hits []string
	for k := 1; ; k++ {
		all[1].does("fail %d", k)
		b, err := n.a.grow(t.Context(), growth{owner: "new", size: 64 << 10, node: AnyNode, shared: true})
		failed := all[1].does("failed")
		all[1].does("fail 0")
		if failed == "" {
			if err != nil {
				t.Fatal("nothing failed, but growing did:", err)
			}
			giveBack(t, n.a, b)
			break
		}
		hits = append(hits, failed)
		refused, ok := errors.AsType[*RefusedError](err)
		if !ok || !strings.Contains(refused.Error(), `"second" (pid `) {
			t.Errorf("growing when %s fails there: %v", failed, err)
		}
		if diff := cmp.Diff(before, look(t, n.a, good)); diff != "" {
			t.Errorf("after %s failed there:\n%s", failed, diff)
		}
		for _, c := range all {
			if got, want := c.does("extents"), n.walked(); got != want {
				t.Errorf("after %s failed: %s, want %s", failed, got, want)
			}
		}
	}
	if diff := cmp.Diff([]string{"identify", "mapFile", "undump"}, hits); diff != "" {
		t.Error("the calls that failed:", diff)
	}
	giveBack(t, n.a, held)
	for _, c := range all {
		c.does("close")
	}
}

func TestWhereItsAddressesAreTakenNobodyAttachesAndTheOthersDoNotMind(t *testing.T) {
	n := served(t, small(), PrimaryOptions{})
	other := n.attached("other")
	b := take(t, n.a, growth{owner: "b", size: 32 << 10, node: AnyNode})
	c := n.spawn("c", socketVar+"_OCCUPY=100000080000+1000")
	got := c.reply()
	for _, want := range []string{"0x100000000000", "/proc/self/maps", "Options.Base"} {
		if !strings.Contains(got, want) {
			t.Errorf("it says %s, and not %q", got, want)
		}
	}
	// And so it is with the primary itself.
	if _, err := Attach(t.Context(), n.path, AttachOptions{}); err == nil || !strings.Contains(err.Error(), "Options.Base") {
		t.Error("attaching to oneself:", err)
	}
	if got, want := other.does("extents"), n.walked(); got != want {
		t.Errorf("the other has %s, want %s", got, want)
	}
	giveBack(t, n.a, b)
	other.does("close")
	n.alone()
}

func TestASecondaryThatStandsStillCostsOneDeadline(t *testing.T) {
	const deadline = 200 * time.Millisecond
	n := served(t, small(), PrimaryOptions{Deadline: deadline})
	c := n.spawn("c")
	if got := c.reply(); got != "ok attached" {
		t.Skip("the machine is too slow:", got)
	}
	held := take(t, n.a, growth{owner: "held", size: 32 << 10, node: AnyNode})
	if c.does("extents") == "" {
		t.Skip("the machine is too slow")
	}
	c.stop()
	began := time.Now()
	b := take(t, n.a, growth{owner: "b", size: 32 << 10, node: AnyNode})
	if took := time.Since(began); took < deadline {
		t.Errorf("growing took %v, and nobody answered within %v", took, deadline)
	}
	n.await("it is not given up", func(all []SecondaryInfo) bool {
		return len(all) == 1 && errors.Is(all[0].Ended, ErrHung)
	})
	// From here on it costs nothing: more deadlines than there is time for.
	late, cancel := context.WithTimeout(t.Context(), 300*deadline/2)
	defer cancel()
	for range 300 {
		x, err := n.a.grow(late, growth{owner: "x", size: 16 << 10, node: AnyNode})
		if err != nil {
			t.Fatal(err)
		}
		giveBack(t, n.a, x)
	}
	// What it has mapped is not used for anything else.
	for _, x := range []*block{held, b} {
		err := n.a.release(t.Context(), x.VA, x.Size)
		if _, ok := errors.AsType[*QuarantineError](err); !ok || !errors.Is(err, ErrHung) || !strings.Contains(err.Error(), "pid") {
			t.Errorf("releasing what it has: %v", err)
		}
	}
	var got uint64
	n.a.locked(func() { got = n.a.usage[AnyNode][quarantined] })
	if got != held.Size+b.Size {
		t.Errorf("%d bytes are quarantined", got)
	}
	c.kill() // it stands still, and ends all the same
	n.alone()
	if left := n.walked(); left != "" {
		t.Errorf("when it is gone there still is %s", left)
	}
}

func TestASecondaryThatWasGivenUpIsToldAndLetsGoByClosing(t *testing.T) {
	n := served(t, small(), PrimaryOptions{})
	c := n.attached("c")
	b := take(t, n.a, growth{owner: "b", size: 32 << 10, node: AnyNode})
	copy(b.VA.Bytes(5), "alive")
	n.p.mu.Lock()
	for q := range n.p.peers {
		go q.drop(ErrHung, 0) // as if it had not answered
	}
	n.p.mu.Unlock()
	if got := c.fails("done"); !strings.Contains(got, ErrPrimary.Error()) {
		t.Error("it is told", got)
	}
	if got := c.fails("alloc 1"); !strings.Contains(got, ErrPrimary.Error()) {
		t.Error("it asks for memory:", got)
	}
	if got := c.does("extents"); got != n.walked() {
		t.Errorf("it has %s, want %s", got, n.walked())
	}
	if _, ok := errors.AsType[*QuarantineError](n.a.release(t.Context(), b.VA, b.Size)); !ok {
		t.Error("what it has was given to the kernel")
	}
	c.does("close")
	n.alone()
	if left := n.walked(); left != "" {
		t.Errorf("when it has closed there still is %s", left)
	}
}

package memfd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestExternalMemoryWithoutAFileStaysInThePrimary(t *testing.T) {
	n := served(t, small(), PrimaryOptions{})
	h, err := n.a.ExternalHeap("h")
	if err == nil {
		err = h.Add(t.Context(), ExternalOptions{Mem: anonymous(t, 16*somePage), Shared: true})
	}
	if err != nil {
		t.Fatal(err)
	}
	z, err := n.a.Zone(t.Context(), "ring", ZoneOptions{Size: somePage, Heap: h})
	if err != nil {
		t.Fatal(err)
	}
	c := n.attached("c")
	if got := c.does("extents"); got != "" {
		t.Errorf("it has %s", got)
	}
	for _, what := range []string{"find ring", "external h"} {
		if got := c.fails("%s", what); !strings.Contains(got, "has no file") {
			t.Errorf("%s: %s", what, got)
		}
	}
	// So it cannot hold it, whatever becomes of it.
	n.giveUp()
	c.fails("done")
	if err := errors.Join(z.Free(), h.Close()); err != nil {
		t.Error(err)
	}
	c.does("close")
}

func TestASecondaryMayChooseWhatExternalMemoryItHas(t *testing.T) {
	n := served(t, small(), PrimaryOptions{})
	h, err := n.a.ExternalHeap("h")
	if err != nil {
		t.Fatal(err)
	}
	var pieces [2]ExternalOptions
	for i := range pieces {
		mem, f := filedAt(t, outsideBase+uint64(i)<<30, 16*somePage)
		pieces[i] = ExternalOptions{Mem: mem, File: f, Offset: somePage}
	}
	mem, f := filedAt(t, outsideBase+1<<40, somePage)
	x := register(t, n.a, "x", ExternalOptions{Mem: mem, File: f, Offset: somePage})
	if err := h.Add(t.Context(), pieces[0]); err != nil {
		t.Fatal(err)
	}
	z, err := n.a.Zone(t.Context(), "ring", ZoneOptions{Size: somePage, Heap: h})
	if err != nil {
		t.Fatal(err)
	}
	c := n.spawn("c", socketVar+"_NOEXTERNAL=1", fmt.Sprintf("%s_OCCUPY=%x+1000", socketVar, outsideBase+1<<40))
	c.hears("ok attached")
	has := func(want int) {
		t.Helper()
		if got := strings.Fields(c.does("extents")); len(got) != want {
			t.Errorf("it has %q, want %d", got, want)
		}
	}
	has(0)
	for what, want := range map[string]error{"find ring": ErrNotAttached, "external x": ErrOverlap, "external y": ErrUnknown} {
		if got := c.fails("%s", what); !strings.Contains(got, want.Error()) {
			t.Errorf("%s: %s", what, got)
		}
	}
	c.does("external h")
	c.does("external h")
	c.does("find ring")
	if err := h.Add(t.Context(), pieces[1]); err != nil {
		t.Fatal(err)
	}
	has(2) // what comes later, too
	c.does("detach h")
	has(0)
	c.does("vacant %x+%x", outsideBase, somePage)
	if got := c.fails("find ring"); !strings.Contains(got, ErrNotAttached.Error()) {
		t.Error("after detaching:", got)
	}
	// What it has not it cannot hold, not even when it was given up.
	n.giveUp()
	c.fails("done")
	if err := errors.Join(z.Free(), h.Close(), x.Unregister(context.Background())); err != nil {
		t.Error(err)
	}
	c.does("close")
}

func TestWhatASecondaryCannotAskForItDoesNot(t *testing.T) {
	s := new(Secondary)
	for _, name := range []string{"", strings.Repeat("x", MaxName+1)} {
		if err := s.AttachExternal(t.Context(), name); !errors.Is(err, ErrName) {
			t.Errorf("%q: %v", name, err)
		}
	}
	if _, err := s.Zone(t.Context(), "z", ZoneOptions{Size: 1, Heap: new(ExternalHeap)}); !errors.Is(err, ErrForeign) {
		t.Error("a heap that the primary does not know:", err)
	}
}

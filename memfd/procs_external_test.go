package memfd

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/memtable"
)

// outsideBase is where nothing else is in any process, nor the arena.
const outsideBase = 0x110000000000

// filedAt gives memory of a caller at an address, mapped from the second page of
// a file on.
func filedAt(t testing.TB, at uint64, size int) ([]byte, *os.File) {
	t.Helper()
	fd, err := unix.MemfdCreate("callers", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "callers")
	t.Cleanup(func() { _ = f.Close() })
	if err := f.Truncate(int64(size) + somePage); err != nil {
		t.Fatal(err)
	}
	mem, err := linux{}.reserve(at, uint64(size))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := (linux{}).unmap(mem); err != nil {
			t.Error(err)
		}
	})
	if err := (linux{}).mapOthers(mem, fd, somePage); err != nil {
		t.Fatal(err)
	}
	return mem, f
}

func TestExternalMemoryWithAFileIsSharedByAllProcessesAtTheSameAddresses(t *testing.T) {
	backwards := func(mem []byte) []memtable.IOVA {
		all := addrs(mem, 1<<40)
		slices.Reverse(all)
		return all
	}
	for name, o := range map[string]ExternalOptions{
		"in one piece": {Shared: true},
		"in pages":     {Addrs: backwards(make([]byte, 16*somePage))},
	} {
		t.Run(name, func(t *testing.T) {
			n := served(t, small(), PrimaryOptions{})
			early := n.attached("early")
			mem, f := filedAt(t, outsideBase, 16*somePage)
			o.Mem, o.File, o.Offset = mem, f, somePage
			b := take(t, n.a, growth{owner: "b", size: 48 << 10, node: AnyNode, shared: true})
			x := register(t, n.a, "x", o)
			late := n.attached("late")
			all := []*pupil{early, late}
			copy(mem[3*somePage:], "first")
			for i, c := range all {
				n.agree(c)
				if got := c.does("read %x", outsideBase+3*somePage); got != "first" {
					t.Errorf("process %d reads %q", i, got)
				}
				c.does("write %x from%d", outsideBase+(4+i)*somePage, i)
			}
			for i, c := range all {
				want := fmt.Sprint("from", 1-i)
				if got := c.does("read %x", outsideBase+(5-i)*somePage); got != want {
					t.Errorf("process %d reads %q of the other", i, got)
				}
				if got := string(mem[(5-i)*somePage:][:5]); got != want {
					t.Errorf("the primary reads %q", got)
				}
			}
			unregister(t, x)
			for _, c := range all {
				n.agree(c)
				c.does("vacant %x+%x", outsideBase, len(mem))
				if got := c.fails("read %x", outsideBase); !strings.Contains(got, "nothing") {
					t.Error("after it was unregistered:", got)
				}
			}
			extents := fmt.Sprint(3 + max(1, len(o.Addrs)))
			if got, gone := early.does("events"), fmt.Sprint(max(1, len(o.Addrs))); got != extents+" "+gone+" "+gone {
				t.Errorf("watchers heard of %s extents", got)
			}
			giveBack(t, n.a, b)
			// What is attached as it closes is gone, too.
			x = register(t, n.a, "x", o)
			early.does("close")
			early.does("vacant %x+%x", outsideBase, len(mem))
			late.kill()
			n.alone()
			unregister(t, x)
		})
	}
}

func TestMoreExternalMemoryThanOneMessageTakesArrives(t *testing.T) {
	n := served(t, small(), PrimaryOptions{})
	var all []*External
	for i := range maxFiles + 6 {
		mem, f := filedAt(t, outsideBase+uint64(i)<<20, somePage)
		all = append(all, register(t, n.a, fmt.Sprint(i), ExternalOptions{Mem: mem, File: f, Offset: somePage}))
	}
	mem, f := filedAt(t, outsideBase+1<<40, (maxRuns+5)*somePage)
	scattered := addrs(mem, 1<<40)
	slices.Reverse(scattered)
	all = append(all, register(t, n.a, "scattered", ExternalOptions{Mem: mem, File: f, Offset: somePage, Addrs: scattered}))
	c := n.attached("c")
	n.agree(c)
	for _, x := range all {
		unregister(t, x)
	}
	n.agree(c)
	c.does("close")
}

func TestExternalMemoryThatOneProcessCannotMapIsRefusedEverywhere(t *testing.T) {
	n := served(t, small(), PrimaryOptions{})
	mirror, _ := followed(t, n.a)
	taken := n.spawn("taken", fmt.Sprintf("%s_OCCUPY=%x+1000", socketVar, outsideBase+2*somePage))
	taken.hears("ok attached")
	other := n.attached("other")
	mem, f := filedAt(t, outsideBase, 4*somePage)
	o := ExternalOptions{Mem: mem, File: f, Offset: somePage, Shared: true}
	before := look(t, n.a, mirror)
	try := func(call string) {
		t.Helper()
		_, err := n.a.Register(t.Context(), "x", o)
		refused, ok := errors.AsType[*RefusedError](err)
		if !ok || !strings.Contains(refused.Error(), `secondary "`) || call == "" && !errors.Is(err, ErrOverlap) {
			t.Errorf("%s: %v", call, err)
		}
		if diff := cmp.Diff(before, look(t, n.a, mirror)); diff != "" {
			t.Error("what has changed:", diff)
		}
		n.agree(other)
		other.does("vacant %x+%x", outsideBase, len(mem))
	}
	try("")
	taken.does("close")
	n.await("it stays", func(all []SecondaryInfo) bool { return len(all) == 1 })
	before = look(t, n.a, mirror)
	var hits []string
	for k := 1; ; k++ {
		other.does("fail %d", k)
		x, err := n.a.Register(t.Context(), "x", o)
		failed := other.does("failed")
		other.does("fail 0")
		if failed == "" {
			if err != nil {
				t.Fatal("nothing failed, but registering did:", err)
			}
			unregister(t, x)
			break
		}
		hits = append(hits, failed)
		other.does("fail %d", k)
		try(failed)
		other.does("fail 0")
	}
	if diff := cmp.Diff([]string{"identify", "reserve", "mapOthers", "undump"}, hits); diff != "" {
		t.Error("the calls that failed:", diff)
	}
	other.does("close")
}

func TestExternalMemoryIsRemovedWhenNobodyUsesItAndAllProcessesHaveLetGo(t *testing.T) {
	n := served(t, small(), PrimaryOptions{})
	mem, f := filedAt(t, outsideBase, 16*somePage)
	h, err := n.a.ExternalHeap("h")
	if err == nil {
		err = h.Add(t.Context(), ExternalOptions{Mem: mem, File: f, Offset: somePage})
	}
	if err != nil {
		t.Fatal(err)
	}
	c := n.attached("c")
	z, err := n.a.Zone(t.Context(), "ring", ZoneOptions{Size: somePage, Heap: h})
	if err != nil {
		t.Fatal(err)
	}
	copy(z.VA.Bytes(5), "hello")
	if got, want := c.does("find ring"), fmt.Sprintf("%v %d hello", z.VA, somePage); got != want {
		t.Errorf("it finds %s, want %s", got, want)
	}
	if err := h.Remove(t.Context(), mem); !errors.Is(err, ErrBusy) {
		t.Error("removing what is in use:", err)
	}
	if got := c.does("read %x", numberOf(z.VA)); got != "hello" {
		t.Errorf("it reads %q", got)
	}
	if err := z.Free(); err != nil {
		t.Fatal(err)
	}
	// As if it had not answered: what it has mapped must stay.
	n.giveUp()
	c.fails("done")
	err = h.Remove(t.Context(), mem)
	if _, ok := errors.AsType[*QuarantineError](err); !ok || !errors.Is(err, ErrHung) {
		t.Error("removing what a process has that was given up:", err)
	}
	c.does("close")
	n.alone()
	if err := errors.Join(h.Remove(t.Context(), mem), h.Close()); err != nil {
		t.Error(err)
	}
	if left := n.walked(); left != "" {
		t.Errorf("in the end there is %s", left)
	}
}

// giveUp drops all secondaries.
func (n *nation) giveUp() {
	n.p.mu.Lock()
	defer n.p.mu.Unlock()
	for q := range n.p.peers {
		go q.drop(ErrHung, 0)
	}
}

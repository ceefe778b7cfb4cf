package memfd

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/memtable"
)

func TestRegisteringThatFailsAtAnySystemCallChangesNothing(t *testing.T) {
	mem, file := filed(t, 16*somePage)
	var hits []string
	for k := 1; ; k++ {
		kernel, a, mirrors, blocks := furnished(t)
		before, open := look(t, a, mirrors...), openFiles(t)
		kernel.arm(unix.ENOMEM, k)
		x, err := a.Register(t.Context(), "x", ExternalOptions{Mem: mem, File: file, Offset: somePage, Shared: true})
		failed := kernel.failed()
		if len(failed) == 0 {
			if err != nil {
				t.Fatal(err)
			}
			unregister(t, x)
		} else if hits = append(hits, failed...); !errors.Is(err, unix.ENOMEM) {
			t.Errorf("%v failed, and the error is %v", failed, err)
		}
		if diff := cmp.Diff(before, look(t, a, mirrors...)); diff != "" || openFiles(t) != open {
			t.Errorf("after %v failed, with %d files open that were %d:\n%s", failed, openFiles(t), open, diff)
		}
		finish(t, kernel, a, mirrors, blocks...)
		if len(failed) == 0 {
			break
		}
	}
	if diff := cmp.Diff([]string{"duplicate", "identify"}, hits); diff != "" {
		t.Error("the calls that failed:", diff)
	}
}

func openFiles(t testing.TB) int {
	t.Helper()
	names, err := linux{}.list("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

func TestUnregisteringGoesThroughWhateverSystemCallFails(t *testing.T) {
	mem, file := filed(t, 16*somePage)
	for k := 1; ; k++ {
		kernel, a, mirrors, blocks := furnished(t)
		before, open := look(t, a, mirrors...), openFiles(t)
		x := register(t, a, "x", ExternalOptions{Mem: mem, File: file, Offset: somePage, Shared: true})
		kernel.arm(unix.EIO, k)
		unregister(t, x)
		failed := kernel.failed()
		if diff := cmp.Diff(before, look(t, a, mirrors...)); diff != "" || openFiles(t) != open {
			t.Errorf("after %v failed, with %d files open that were %d:\n%s", failed, openFiles(t), open, diff)
		}
		finish(t, kernel, a, mirrors, blocks...)
		if len(failed) == 0 {
			return
		}
	}
}

func TestExternalMemoryThatAMirrorHoldsIsQuarantinedAndCanBeTriedAgain(t *testing.T) {
	a := opened(t, linux{}, small())
	w, _ := followed(t, a)
	mem, file := filed(t, 4*somePage)
	o := ExternalOptions{Mem: mem, File: file, Offset: somePage, Shared: true}
	h := externalHeap(t, a, "h")
	for name, again := range map[string]func(*External) error{
		"unregister": func(x *External) error { return x.Unregister(context.Background()) },
		"reclaim":    func(*External) error { return a.Reclaim(context.Background()) },
	} {
		t.Run(name, func(t *testing.T) {
			x := register(t, a, "x", o)
			w.holdOn.Store(true)
			for range 2 {
				err := x.Unregister(t.Context())
				if q, ok := errors.AsType[*QuarantineError](err); !ok || !errors.Is(err, errHeld) || stateAt(a, q) != "quarantined" {
					t.Fatalf("unregistering what a mirror holds: %v", err)
				}
			}
			if _, ok := a.Lookup(x.hold.VA()); !ok || a.External("x") != x {
				t.Error("it is still there for the mirror, and is not found")
			}
			if err := h.Add(t.Context(), o); !errors.Is(err, ErrOverlap) {
				t.Errorf("adding it elsewhere: %v", err)
			}
			w.holdOn.Store(false)
			if err := again(x); err != nil || a.External("x") != nil || len(w.addresses()) > 0 {
				t.Errorf("again: %v", err)
			}
		})
	}
	if err := h.Add(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	w.holdOn.Store(true)
	if _, ok := errors.AsType[*QuarantineError](h.Remove(t.Context(), mem)); !ok {
		t.Error("a heap's memory that a mirror holds was removed")
	}
	if _, err := h.Alloc(t.Context(), 64, 0); !isShort(err) {
		t.Errorf("memory that is being removed was lent: %v", err)
	}
	w.holdOn.Store(false)
	if err := h.Remove(t.Context(), mem); err != nil {
		t.Error("again:", err)
	}
	if err := w.check(); err != nil {
		t.Error(err)
	}
}

func TestAFaultInExternalMemoryIsBlamedOnIt(t *testing.T) {
	for name, o := range map[string]Options{
		"found by devices": small(),
		"not found by devices": func() Options {
			o := small()
			o.IOVA, o.Resolver = IOVAAsPA, shuffled{}
			return o
		}(),
	} {
		t.Run(name, func(t *testing.T) {
			a := opened(t, linux{}, o)
			mem, file := filed(t, 4*somePage)
			x := register(t, a, "x", ExternalOptions{Mem: mem, File: file, Offset: somePage})
			if err := file.Truncate(2 * somePage); err != nil {
				t.Fatal(err)
			}
			err := memtable.Guard(func() error { mem[2*somePage+5] = 1; return nil })
			fault, ok := errors.AsType[*memtable.FaultError](err)
			if !ok || fault.Owner != x || fault.Offset != 3*somePage+5 {
				t.Fatalf("a page that was cut off: %+v", fault)
			}
			unregister(t, x)
			h := externalHeap(t, a, "h")
			before := look(t, a)
			err = h.Add(t.Context(), ExternalOptions{Mem: mem, File: file, Offset: somePage})
			if fault, ok := errors.AsType[*memtable.FaultError](err); !ok || fault.Owner.(*External).Name() != "h" {
				t.Errorf("adding memory whose file is cut off: %v", err)
			}
			if diff := cmp.Diff(before, look(t, a)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// For the race detector, mostly: what look-ups read is replaced, never changed.
func TestLookUpsGoOnWhileExternalMemoryComesAndGoes(t *testing.T) {
	o := small()
	o.Domain = new(memtable.Domain)
	a := opened(t, linux{}, o)
	mem := anonymous(t, 8*somePage)
	resident := register(t, a, "resident", ExternalOptions{Mem: mem[:somePage]})
	va := resident.hold.VA()
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			r := o.Domain.Join("reader")
			defer r.Close()
			for {
				select {
				case <-done:
					return
				default:
				}
				r.Enter()
				if found, ok := a.ByIOVA(r).At(memtable.IOVA(numberOf(va)), 1); !ok || found != va {
					t.Error("it is not found by devices")
				}
				r.Leave()
				if _, ok := a.Lookup(va); !ok {
					t.Error("it is not found")
				}
				if e, ok := a.Lookup(va.Add(3 * somePage)); ok && e.Size != somePage {
					t.Errorf("beside it is %+v", e)
				}
			}
		})
	}
	for i := range 200 {
		page := mem[(1+i%7)*somePage:][:somePage]
		unregister(t, register(t, a, "x", ExternalOptions{Mem: page}))
	}
	close(done)
	readers.Wait()
}

// An arena that is closed has let go of what its owner forgot.
func TestClosingTheArenaUnregistersAllExternalMemory(t *testing.T) {
	k := new(saboteur)
	a, err := newArena(k, small())
	if err != nil {
		t.Fatal(err)
	}
	w, _ := followed(t, a)
	mem, file := filed(t, 4*somePage)
	files := openFiles(t)
	register(t, a, "x", ExternalOptions{Mem: mem[:somePage], File: file, Offset: somePage, Shared: true})
	h := externalHeap(t, a, "h", ExternalOptions{Mem: mem[somePage:], File: file, Offset: 2 * somePage, Shared: true})
	if got := w.addresses(); !slices.Equal(got, []uint64{addressOf(mem), addressOf(mem[somePage:])}) {
		t.Errorf("the mirror has %x", got)
	}
	b, err := h.Alloc(t.Context(), 64, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); !errors.Is(err, ErrBusy) || len(w.addresses()) != 2 {
		t.Errorf("closing with something lent: %v", err)
	}
	if err := h.Free(b); err != nil {
		t.Error(err)
	}
	finish(t, k, a, []*witness{w})
	if got := w.addresses(); len(got) > 0 || openFiles(t) != files {
		t.Errorf("the mirror has %x, %d files are open that were %d", got, openFiles(t), files)
	}
	mem[0] = 1 // it is still the caller's, and mapped
	if _, err := a.Register(t.Context(), "y", ExternalOptions{Mem: mem}); !errors.Is(err, ErrClosed) {
		t.Errorf("registering with an arena that is closed: %v", err)
	}
}

package memtable_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vhostd/vhostd/memtable"
)

// ended is a context that ends every wait which is not over at once: it asks
// "would Wait have to wait?" without a clock.
func ended() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

func TestWaitReturnsOnlyWhenNobodyIsInside(t *testing.T) {
	var d memtable.Domain
	if err := d.Wait(ended()); err != nil {
		t.Error("nobody has joined:", err)
	}
	r := d.Join("worker 1")
	if err := d.Wait(ended()); err != nil {
		t.Error("nobody has entered:", err)
	}
	r.Enter()
	for range 2 {
		if err := d.Wait(ended()); err == nil {
			t.Error("worker 1 is inside, and Wait returned")
		}
	}
	r.Pass()
	// The pass came after those waits began, but this wait began after it.
	if err := d.Wait(ended()); err == nil {
		t.Error("worker 1 has not passed since, and Wait returned")
	}
	r.Leave()
	if err := d.Wait(ended()); err != nil {
		t.Error("worker 1 is parked:", err)
	}
}

func TestLateErrorNamesTheLate(t *testing.T) {
	var d memtable.Domain
	for _, name := range []string{"c", "a", "b"} {
		r := d.Join(name)
		r.Enter()
		if name == "b" {
			r.Leave()
		}
	}
	why := errors.New("the operator lost patience")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	err := d.Wait(ctx)
	late, ok := errors.AsType[*memtable.LateError](err)
	if !ok || !slices.Equal(late.Readers, []string{"a", "c"}) || !errors.Is(err, why) {
		t.Fatalf("Wait: %#v", err)
	}
	if s := err.Error(); !strings.Contains(s, "a, c") || !strings.Contains(s, why.Error()) {
		t.Errorf("it says %q", s)
	}
}

// Of several sessions in one domain only those that are late may be blamed.
func TestLateErrorCarriesTheOwnersOfTheLateOnly(t *testing.T) {
	var d memtable.Domain
	late, prompt := new(int), new(int)
	for name, owner := range map[string]any{"late 1": late, "late 2": late, "nobody's": nil} {
		d.JoinFor(owner, name).Enter()
	}
	d.JoinFor(prompt, "prompt")
	err, ok := errors.AsType[*memtable.LateError](d.Wait(ended()))
	if !ok || !slices.Equal(err.Owners, []any{late}) || len(err.Readers) != 3 {
		t.Errorf("Wait: %#v", err)
	}
}

func TestClosedReaderIsNotWaitedFor(t *testing.T) {
	var d memtable.Domain
	r, other := d.Join("closed"), d.Join("other")
	r.Enter()
	other.Enter()
	other.Leave()
	r.Close()
	if err := d.Wait(ended()); err != nil {
		t.Error(err)
	}
}

// In a bubble of synctest the clock runs only while all goroutines are blocked,
// so Wait can be met in the midst of waiting.
func TestWaitGoesOnAtEachWayOut(t *testing.T) {
	for name, out := range map[string]func(*memtable.Reader){
		"pass":            (*memtable.Reader).Pass,
		"leave":           (*memtable.Reader).Leave,
		"close":           (*memtable.Reader).Close,
		"leave and enter": func(r *memtable.Reader) { r.Leave(); r.Enter() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var d memtable.Domain
				r := d.Join("worker")
				r.Enter()
				done := make(chan error, 3)
				for range cap(done) { // several may wait
					go func() { done <- d.Wait(t.Context()) }()
				}
				time.Sleep(time.Minute) // of the bubble: Wait has tried very often
				select {
				case err := <-done:
					t.Fatal("Wait returned early:", err)
				default:
				}
				// Who comes now, or was never inside, does not matter.
				d.Join("parked")
				d.Join("newcomer").Enter()
				out(r)
				for range cap(done) {
					if err := <-done; err != nil {
						t.Error(err)
					}
				}
			})
		})
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d memtable.Domain
		d.Join("stuck").Enter()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begin := time.Now()
		err := d.Wait(ctx)
		if _, ok := errors.AsType[*memtable.LateError](err); !ok || !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if took := time.Since(begin); took != time.Second {
			t.Errorf("it took %v of the second it had", took)
		}
	})
}

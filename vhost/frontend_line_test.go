package vhost

import (
	"context"
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

// called is a line of a ring that runs, and what calls it as its back-end does.
func called(t *testing.T) (n *line, call func()) {
	t.Helper()
	_, d := runs(t, newReferee(t, 0), newSupply(t, 4, 2), nil)
	n = d.line.(*line)
	ok(t, n.Wait(t.Context())) // the first returns at once
	one := order.AppendUint64(nil, 1)
	return n, func() { _, _ = unix.Write(n.callFD, one) }
}

func TestFrontendWaitingForALineDoesNotAllocate(t *testing.T) {
	noLeaks(t)
	n, call := called(t)
	ctx := t.Context()
	if a := testing.AllocsPerRun(100, func() { call(); _ = n.Wait(ctx) }); a >= 1 {
		t.Errorf("a wait allocates %v times", a)
	}
}

// The context of a wait before is neither listened to nor taken for this one's.
func TestFrontendAWaitEndsWithItsOwnContext(t *testing.T) {
	noLeaks(t)
	n, call := called(t)
	errFirst, errSecond := errors.New("first"), errors.New("second")
	first, endFirst := context.WithCancelCause(t.Context())
	second, endSecond := context.WithCancelCause(t.Context())
	call()
	ok(t, n.Wait(first))
	call()
	ok(t, n.Wait(second))
	waits := func(ctx context.Context) <-chan error {
		ended := make(chan error, 1)
		go func() { ended <- n.Wait(ctx) }()
		return ended
	}
	ended := waits(second)
	endFirst(errFirst)
	endSecond(errSecond)
	within(t, "the end of the second", func() {
		if err := <-ended; !errors.Is(err, errSecond) {
			t.Errorf("ended with %v", err)
		}
	})
	within(t, "waits that ended before they began", func() {
		for ctx, want := range map[context.Context]error{first: errFirst, second: errSecond} {
			if err := n.Wait(ctx); !errors.Is(err, want) {
				t.Errorf("ended with %v, want %v", err, want)
			}
		}
	})
}

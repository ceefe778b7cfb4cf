package conformance

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// newEventfd makes an eventfd that does not block, for as long as the test runs.
func newEventfd(t testing.TB) int {
	t.Helper()
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	must(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// signal adds one to an eventfd.
func signal(fd int) {
	one := [8]byte{1}
	_, _ = unix.Write(fd, one[:]) // a full counter is a signal too
}

// signalled waits until an eventfd of ours is signalled, and clears it.
func (f *front) signalled(fd int) {
	f.t.Helper()
	eventually(f.t, "the eventfd is signalled", func() bool { return takeSignal(fd) })
}

// takeSignal clears an eventfd and says whether it was signalled.
func takeSignal(fd int) bool {
	var b [8]byte
	n, _ := unix.Read(fd, b[:])
	return n == len(b)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually polls a condition until it holds; the test fails if it never does.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(*patience); !ok(); time.Sleep(100 * time.Microsecond) {
		if time.Now().After(end) {
			t.Fatalf("did not happen in %v: %s", *patience, what)
		}
	}
}

// within fails the test unless f returns in time.
func within(t testing.TB, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	receive(t, what, done)
}

// receive gives the next value of c, or fails the test.
func receive[T any](t testing.TB, what string, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(*patience):
		t.Fatalf("did not happen in %v: %s", *patience, what)
	}
	return v
}

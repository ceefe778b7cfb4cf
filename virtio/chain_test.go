package virtio_test

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/vhostd/vhostd/virtio"
	"github.com/vhostd/vhostd/virtio/virtiotest"
)

// echo answers each chain with what it reads, by the simple road.
func echo(q *virtio.Queue) (served int) {
	for c := range q.Chains() {
		p, _ := io.ReadAll(c)
		n, _ := c.Write(p)
		c.Done(n)
		served++
	}
	return served
}

// TestChainsEcho: in every shape, over regions and in one.
func TestChainsEcho(t *testing.T) {
	rig := virtiotest.New(t, virtiotest.Options{DriverOptions: virtiotest.DriverOptions{Size: 64, Features: virtio.FeatureIndirect | virtio.FeatureInOrder}})
	for _, shape := range []virtiotest.Shape{virtiotest.Chained, virtiotest.Table, virtiotest.Tail} {
		for _, across := range []bool{false, true} {
			rig.Make(virtiotest.Request{
				Out: [][]byte{[]byte("what "), []byte("is "), nil, []byte("sent")}, In: []int{1, 5, 0, 20}, Shape: shape, Across: across,
			})
		}
	}
	rig.Publish()
	rig.Stay(func(q *virtio.Queue) { echo(q) })
	for range 6 {
		if got := rig.Recv(); string(got) != "what is sent" {
			t.Errorf("%q came back", got)
		}
	}
}

// TestReadableAndWritableAreTheBuffers: without a copy, in order, apart.
func TestReadableAndWritableAreTheBuffers(t *testing.T) {
	rig := virtiotest.New(t, virtiotest.Options{})
	rig.Make(virtiotest.Request{Out: [][]byte{[]byte("ab"), []byte("c")}, In: []int{2, 3}})
	rig.Publish()
	rig.Stay(func(q *virtio.Queue) {
		for c := range q.Chains() {
			if got := bytes.Join(c.Readable(), []byte("|")); string(got) != "ab|c" {
				t.Errorf("readable: %q", got)
			}
			w := c.Writable()
			if len(w) != 2 || len(w[0]) != 2 || len(w[1]) != 3 {
				t.Fatalf("writable: %v", w)
			}
			copy(w[0], "12")
			copy(w[1], "345")
			c.Done(4)
		}
	})
	if got := rig.Take(); string(got.Data()) != "1234" || string(got.In[1]) != "345" {
		t.Errorf("came back: %+v", got)
	}
}

// TestReadAndWriteSayWhereTheyEnd: io.EOF, io.ErrShortWrite.
func TestReadAndWriteSayWhereTheyEnd(t *testing.T) {
	rig := virtiotest.New(t, virtiotest.Options{})
	rig.Ask(4, []byte("abc"), []byte("de"))
	rig.Stay(func(q *virtio.Queue) {
		c, ok := q.Next()
		if !ok {
			t.Fatal("no chain")
		}
		p := make([]byte, 4)
		if n, err := c.Read(p); n != 4 || err != nil || string(p) != "abcd" {
			t.Errorf("the first read: %q %d %v", p, n, err)
		}
		if n, err := c.Read(p); n != 1 || err != nil || p[0] != 'e' {
			t.Errorf("the second read: %q %d %v", p, n, err)
		}
		if n, err := c.Read(p); n != 0 || !errors.Is(err, io.EOF) {
			t.Errorf("the read at the end: %d %v", n, err)
		}
		if n, err := c.Write([]byte("123")); n != 3 || err != nil {
			t.Errorf("the first write: %d %v", n, err)
		}
		if n, err := c.Write([]byte("456")); n != 1 || !errors.Is(err, io.ErrShortWrite) {
			t.Errorf("the write over the end: %d %v", n, err)
		}
		c.Done(c.Wrote())
		if _, ok := q.Next(); ok {
			t.Error("there is a second chain")
		}
	})
	if got := rig.Recv(); string(got) != "1234" {
		t.Errorf("%q came back", got)
	}
}

// TestWhatIsNotDoneComesBackWithLengthZero, and Done says no more than there is.
func TestWhatIsNotDoneComesBackWithLengthZero(t *testing.T) {
	rig := virtiotest.New(t, virtiotest.Options{})
	for range 3 {
		rig.Post(8)
	}
	lens := []int{-1, 1 << 40}
	rig.Stay(func(q *virtio.Queue) {
		i := 0
		for c := range q.Chains() {
			_, _ = c.Write([]byte("12345678"))
			if i < len(lens) {
				c.Done(lens[i])
			}
			i++
		}
	})
	for i, want := range []uint32{0, 8, 0} {
		if got := rig.Take(); got.Len != want {
			t.Errorf("chain %d came back with length %d, want %d", i, got.Len, want)
		}
	}
}

// TestALoopThatIsLeftGivesBackTheRest: what it saw is used, what it did not see
// was never taken.
func TestALoopThatIsLeftGivesBackTheRest(t *testing.T) {
	rig := virtiotest.New(t, virtiotest.Options{})
	for range 5 {
		rig.Post(8)
	}
	rig.Stay(func(q *virtio.Queue) {
		seen := 0
		for c := range q.Chains() {
			n, _ := c.Write([]byte("seen"))
			c.Done(n)
			if seen++; seen == 2 {
				break
			}
		}
		if !q.Arm() {
			t.Error("Arm sees no more chains")
		}
	})
	if n := rig.Waiting(); n != 2 || rig.Queue.Position() != 2 {
		t.Fatalf("%d chains came back, the queue goes on at %d", n, rig.Queue.Position())
	}
	rig.Stay(func(q *virtio.Queue) { echo(q) })
	for i := range 5 {
		if got := rig.Recv(); (string(got) == "seen") != (i < 2) {
			t.Errorf("chain %d came back with %q", i, got)
		}
	}
}

// TestAPanicInAHandlerLosesNoChain: End after a chain that was not finished gives
// it back, and the next stay sees it again.
func TestAPanicInAHandlerLosesNoChain(t *testing.T) {
	rig := virtiotest.New(t, virtiotest.Options{})
	rig.Ask(8, []byte("one"))
	rig.Ask(8, []byte("two"))
	func() {
		defer func() { _ = recover() }()
		rig.Stay(func(q *virtio.Queue) {
			for range q.Chains() {
				panic("the handler fails")
			}
		})
	}()
	rig.Stay(func(q *virtio.Queue) { echo(q) })
	if a, b := rig.Recv(), rig.Recv(); string(a) != "one" || string(b) != "two" {
		t.Errorf("%q and %q came back", a, b)
	}
}

// TestBadChainsAreNotHandedOut: the simple road never sees them.
func TestBadChainsAreNotHandedOut(t *testing.T) {
	rig := virtiotest.New(t, virtiotest.Options{})
	if _, err := rig.Raw().Chain([]virtiotest.Desc{{Addr: rig.Memory.Hole(), Len: 8}}); err != nil {
		t.Fatal(err)
	}
	rig.Make(virtiotest.Request{Out: [][]byte{[]byte("good")}, In: []int{4}})
	rig.Publish()
	rig.Stay(func(q *virtio.Queue) {
		if n := echo(q); n != 1 {
			t.Errorf("%d chains were handed out", n)
		}
	})
	if bad := rig.Take(); bad.Len != 0 {
		t.Errorf("the bad chain came back with %d", bad.Len)
	}
	if got := rig.Recv(); string(got) != "good" {
		t.Errorf("the good chain came back with %q", got)
	}
}

// TestADriverThatNeverStopsDoesNotKeepTheWorker: the driver makes each chain
// available again as it comes back; one stay must end all the same.
func TestADriverThatNeverStopsDoesNotKeepTheWorker(t *testing.T) {
	const size = 64
	rig := virtiotest.New(t, virtiotest.Options{DriverOptions: virtiotest.DriverOptions{Size: size}})
	for range size {
		rig.Post(8)
	}
	served := 0
	rig.Stay(func(q *virtio.Queue) {
		for c := range q.Chains() {
			c.Done(0)
			if served++; served > 1<<20 {
				t.Fatal("the stay does not end")
			}
			for rig.Waiting() > 0 {
				rig.Take()
				rig.Post(8)
			}
		}
		if !q.Arm() {
			t.Error("Arm does not say that there is more")
		}
	})
	if served < size {
		t.Errorf("only %d chains were served", served)
	}
}

package vblk_test

import (
	"bytes"
	stdcontext "context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio"
	"github.com/vhostd/vhostd/virtio/vblk"
)

var errKilled = errors.New("the test ends the connection")

// holdAll is a device that takes every request and answers none.
func holdAll(vblk.Header, vblk.Status) (vblk.Status, int, bool) { return 0, 0, true }

// awaitHeld waits until the device has n requests that it does not answer.
func (p *platter) awaitHeld(tb testing.TB, n int) {
	tb.Helper()
	eventually(tb, "requests that the device holds", func() (all bool) {
		p.edit(func() { all = p.held >= n })
		return all
	})
}

// The back-end is killed again and again under traffic: what was in flight is
// sent again, each write is there in the end, and all memory comes back.
func TestRequestsAreSentAgainToTheNextDevice(t *testing.T) {
	for name, wish := range map[string]virtio.Features{"sent again": 0, "resumed in order": ^virtio.Features(0), "resumed by a record": 0} {
		t.Run(name, func(t *testing.T) {
			p := newPlatter(4096)
			p.record, p.reversed = name == "resumed by a record", name == "resumed by a record"
			r := open(t, p.listen(t), func(o *vblk.Options) { o.Queues, o.Features = 2, wish })
			stop := make(chan struct{})
			var all sync.WaitGroup
			for g := range 4 {
				all.Go(func() {
					for round := 0; ; round++ {
						select {
						case <-stop:
							return
						default:
						}
						want, at := noise(40*512, byte(round)), int64(g)*512*512
						if _, err := r.WriteAt(want, at); err != nil {
							t.Errorf("write: %v", err)
							return
						}
						if err := r.Flush(t.Context()); err != nil {
							t.Errorf("flush: %v", err)
							return
						}
						got := make([]byte, len(want))
						if _, err := r.ReadAt(got, at); err != nil || !bytes.Equal(got, want) {
							t.Errorf("goroutine %d, round %d: %v", g, round, err)
							return
						}
					}
				})
			}
			for range 20 {
				before := r.Stats().Queues[0].Completed
				eventually(t, "traffic", func() bool { return r.Stats().Queues[0].Completed > before+20 })
				(<-p.opened).Fail(errKilled)
			}
			close(stop)
			all.Wait()
			// A device that dies before it was ever used is no loss.
			if s := r.Stats(); s.Losses == 0 || s.Losses > 20 {
				t.Errorf("%d losses", s.Losses)
			}
			for i, q := range r.Stats().Queues {
				if q.Lent != 0 || q.Submitted != q.Completed || q.Failed != 0 || q.Err != nil {
					t.Errorf("queue %d: %+v", i, q)
				}
				if name != "sent again" && q.Resent != 0 {
					t.Errorf("queue %d sent %d requests again though they resume", i, q.Resent)
				}
			}
		})
	}
}

// A flush that is sent again comes behind the writes that are.
func TestAFlushIsSentAgainLast(t *testing.T) {
	p := newPlatter(64)
	p.answer = holdAll
	r := open(t, p.listen(t), direct)
	q, b := r.Queue(0), r.buf(t, 512)
	rs := []vblk.Request{{Type: vblk.TypeFlush}, {Type: vblk.TypeOut, Bufs: []memtable.Buf{b}}, {Type: vblk.TypeIn, Bufs: []memtable.Buf{b}}}
	if n, err := q.Submit(rs); n != 3 || err != nil {
		t.Fatal(n, err)
	}
	p.awaitHeld(t, 3)
	p.edit(func() { p.heals = true })
	(<-p.opened).Fail(errKilled)
	for _, d := range collect(t, q, 3) {
		must(t, d.Err)
	}
	if got := p.types(); !slices.Equal(got, []vblk.Type{vblk.TypeOut, vblk.TypeIn, vblk.TypeFlush}) {
		t.Errorf("the next device was asked for %v", got)
	}
}

// With Once nothing is sent twice.
func TestOnceFailsWhatWasLost(t *testing.T) {
	p := newPlatter(64)
	p.answer = holdAll
	r := open(t, p.listen(t), func(o *vblk.Options) { o.Once = true })
	result := make(chan error, 1)
	go func() { result <- r.Flush(t.Context()) }()
	p.awaitHeld(t, 1)
	p.edit(func() { p.heals = true })
	(<-p.opened).Fail(errKilled)
	if err := <-result; !errors.Is(err, vblk.ErrLost) {
		t.Errorf("a flush that was lost: %v", err)
	}
	if got := p.types(); len(got) != 0 {
		t.Errorf("the next device was asked for %v", got)
	}
	must(t, r.Flush(t.Context()))
}

// A request that kills its device does so a few times, and then fails alone.
func TestARequestThatKillsItsDeviceIsGivenUp(t *testing.T) {
	p := newPlatter(64)
	p.answer = func(h vblk.Header, s vblk.Status) (vblk.Status, int, bool) {
		return s, 0, h.Type == vblk.TypeOut
	}
	r := open(t, p.listen(t), nil)
	result := make(chan error, 1)
	go func() {
		_, err := r.WriteAt(make([]byte, 512), 0)
		result <- err
	}()
	for kills := 0; ; kills++ {
		if kills > 20 {
			t.Fatal("it is sent for ever")
		}
		s := <-p.opened
		eventually(t, "the request", func() (there bool) {
			p.edit(func() { there = p.held > 0 })
			return there || len(result) > 0
		})
		if len(result) > 0 {
			break
		}
		s.Fail(errKilled)
		eventually(t, "the loss", func() bool { return r.Stats().Losses == uint64(kills+1) })
	}
	if err := <-result; !errors.Is(err, vblk.ErrLost) {
		t.Errorf("it failed with %v", err)
	}
	must(t, r.Flush(t.Context()))
}

// A wait that ends leaves the buffers with the device until it gives them back
// or is gone, and the caller hears of it.
func TestBuffersStayLentBeyondTheWait(t *testing.T) {
	p := newPlatter(64)
	p.answer = holdAll
	r := open(t, p.listen(t), func(o *vblk.Options) { o.BounceCount = 1; o.Timeout = time.Millisecond })
	b := r.buf(t, 512)
	ctx, cancel := stdcontext.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	err := r.ReadBufs(ctx, 0, []memtable.Buf{b})
	lent, ok := errors.AsType[*vblk.LentError](err)
	if !ok || !errors.Is(err, stdcontext.DeadlineExceeded) {
		t.Fatalf("a read that nobody answers: %v", err)
	}
	_, err = r.ReadAt(make([]byte, 512), 0)
	if _, ok := errors.AsType[*vblk.LentError](err); !ok {
		t.Fatalf("a read that nobody answers: %v", err)
	}
	// The only bounce buffer is the device's: nobody else is given it.
	if _, err = r.ReadAt(make([]byte, 512), 0); !errors.Is(err, stdcontext.DeadlineExceeded) || r.Stats().Queues[0].Lent != 2 {
		t.Errorf("a second read: %v, %d requests are lent", err, r.Stats().Queues[0].Lent)
	}
	select {
	case <-lent.Back:
		t.Error("the buffer is said to be back, but nobody gave it")
	default:
	}
	p.awaitHeld(t, 2)
	p.edit(func() { p.heals = true; p.data[7] = 0x5a })
	(<-p.opened).Fail(errKilled)
	<-lent.Back
	if b.VA.Bytes(512)[7] != 0x5a {
		t.Error("the buffer came back without what the next device wrote")
	}
	eventually(t, "the bounce buffer", func() bool { _, err := r.ReadAt(make([]byte, 512), 0); return err == nil })
}

// While there is no device, callers wait as long as they like, and a direct queue
// says so.
func TestWithoutADeviceCallersWait(t *testing.T) {
	p := newPlatter(64)
	path := t.TempDir() + "/b.sock"
	ctx, cancel := stdcontext.WithCancel(t.Context())
	served := p.serveAt(t, ctx, path)
	r := open(t, path, direct)
	cancel()
	<-served
	eventually(t, "the loss", func() bool { return r.Stats().Losses == 1 })
	if n, err := r.Queue(0).Submit([]vblk.Request{{Type: vblk.TypeFlush}}); n != 0 || err != vblk.ErrLost {
		t.Errorf("%d requests without a device, %v", n, err)
	}
	short, done := stdcontext.WithTimeout(t.Context(), time.Millisecond)
	defer done()
	err := r.Flush(short)
	if _, lent := errors.AsType[*vblk.LentError](err); lent || !errors.Is(err, stdcontext.DeadlineExceeded) {
		t.Errorf("a flush without a device: %v", err)
	}
	result := make(chan error, 1)
	go func() { result <- r.Flush(t.Context()) }()
	p.serveAt(t, t.Context(), path)
	must(t, <-result)
	must(t, r.Queue(0).Wait(t.Context()))
}

// Pause waits for what is lent, and holds up the rest until Resume.
func TestPauseWaitsForWhatIsLent(t *testing.T) {
	p := newPlatter(64)
	p.answer = holdAll
	r := open(t, p.listen(t), nil)
	lost := make(chan error, 1)
	go func() { lost <- r.Flush(t.Context()) }()
	p.awaitHeld(t, 1)
	ctx, cancel := stdcontext.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := r.Pause(ctx); !errors.Is(err, stdcontext.DeadlineExceeded) {
		t.Errorf("a pause with a request in flight: %v", err)
	}
	r.Resume()
	p.edit(func() { p.heals = true })
	(<-p.opened).Fail(errKilled)
	must(t, <-lost)
	must(t, r.Pause(t.Context()))
	short, done := stdcontext.WithTimeout(t.Context(), time.Millisecond)
	defer done()
	if err := r.Flush(short); !errors.Is(err, stdcontext.DeadlineExceeded) {
		t.Errorf("a flush in a pause: %v", err)
	}
	r.Resume()
	must(t, r.Flush(t.Context()))
}

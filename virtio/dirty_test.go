package virtio_test

import (
	"maps"
	"testing"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio"
	"github.com/vhostd/vhostd/virtio/virtiotest"
)

// TestTheDirtyLogHasEveryPageWritten, and no other: the used ring and the data,
// for chains of every shape that are served a few bytes or wholly.
func TestTheDirtyLogHasEveryPageWritten(t *testing.T) {
	for name, dir := range directions {
		for _, feat := range []virtio.Features{virtio.FeatureIndirect, virtio.FeatureIndirect | virtio.FeatureEventIdx} {
			t.Run(name, func(t *testing.T) {
				rig := virtiotest.New(t, virtiotest.Options{DriverOptions: virtiotest.DriverOptions{Size: 256, Features: feat}, Log: true})
				for i := range 24 {
					r := virtiotest.Request{Shape: virtiotest.Shape(i % 3), Across: i%2 == 0}
					if dir != virtio.Writable {
						r.Out = [][]byte{make([]byte, 100), make([]byte, 3000)}
					}
					if dir != virtio.Readable {
						r.In = []int{1 + i*100, 5000 / (i + 1), 2000}[:1+i%3]
					}
					_, _ = rig.Add(r) // as many as there is room for
				}
				rig.Publish()
				before := rig.Memory.Snapshot()
				var b virtio.Burst
				rig.Stay(func(q *virtio.Queue) {
					q.Disarm()
					for q.Take(&b, dir, 5) > 0 {
						for i := range b.N {
							scribble(&b, i)
						}
						q.Put(&b)
						q.Publish()
					}
					q.Arm()
				})
				written, logged := rig.Memory.Changed(before), rig.Dirty()
				if !maps.Equal(written, logged) {
					t.Errorf("pages written: %v\nin the log:    %v", written, logged)
				}
				if s := rig.Queue.Stats(); s.Unlogged != 0 || s.BadChains != nil {
					t.Errorf("%d writes were not logged; bad chains: %v", s.Unlogged, s.BadChains)
				}
			})
		}
	}
}

// scribble writes into element i, every third one wholly, the others in part.
func scribble(b *virtio.Burst, i int) {
	_, writable := segs(b, i)
	room := 0
	for _, s := range writable {
		room += len(s)
	}
	if i%3 != 0 {
		room /= i + 1
	}
	b.Elem[i].Wrote = uint32(room)
	for _, s := range writable {
		n := min(len(s), room)
		for k := range s[:n] {
			s[k] = 0xaa
		}
		room -= n
	}
}

// TestEachStepLogsWhatItWrites: a front-end may read and clear the log between
// any two.
func TestEachStepLogsWhatItWrites(t *testing.T) {
	rig := virtiotest.New(t, virtiotest.Options{DriverOptions: virtiotest.DriverOptions{Features: virtio.FeatureEventIdx}, Log: true})
	rig.Post(64)
	rig.Post(64)
	used := rig.UsedAddr() &^ 4095
	var b virtio.Burst
	rig.Stay(func(q *virtio.Queue) {
		for _, step := range []struct {
			name string
			do   func()
			want int // pages, the used ring's among them
		}{
			{"Take", func() { q.Take(&b, virtio.Writable, 1) }, 0},
			{"Untake", func() { q.Untake(&b, 0) }, 0},
			{"Take again", func() { q.Take(&b, virtio.Writable, 1) }, 0},
			{"Put", func() { scribble(&b, 0); q.Put(&b) }, 2},
			{"Publish", func() { q.Publish() }, 1},
			{"Publish nothing", func() { q.Publish() }, 0},
			{"Arm", func() { q.Arm() }, 1},
		} {
			step.do()
			if got := rig.Dirty(); len(got) != step.want || step.want > 0 && !got[used] {
				t.Errorf("%s: the log has %v, want %d pages", step.name, got, step.want)
			}
		}
	})
}

// TestTheUsedRingIsLoggedWhereItWasAskedFor: log_guest_addr need not be the
// ring's own address; without VHOST_VRING_F_LOG it is not logged.
func TestTheUsedRingIsLoggedWhereItWasAskedFor(t *testing.T) {
	const elsewhere = 0x9000
	for _, logged := range []bool{true, false} {
		rig := virtiotest.New(t, virtiotest.Options{Log: true})
		view := rig.View
		view.LogUsed, view.UsedLog = logged, elsewhere
		rig.Queue.Configure(&view)
		rig.Send([]byte("read only"))
		serve(rig, virtio.Readable)
		want := map[memtable.GPA]bool{}
		if logged {
			want[elsewhere] = true
		}
		if got := rig.Dirty(); !maps.Equal(got, want) {
			t.Errorf("log of the used ring %v: the log has %v", logged, got)
		}
		rig.Take()
	}
}

// TestALogThatIsTooShortIsTold: at once, since the migration must fail, and once.
func TestALogThatIsTooShortIsTold(t *testing.T) {
	rig := virtiotest.New(t, virtiotest.Options{Log: true})
	short := memtable.Wrap(make([]byte, 4), memtable.FileID{}, 0, nil)
	t.Cleanup(func() { short.Close() })
	log, err := memtable.NewLog(short)
	if err != nil {
		t.Fatal(err)
	}
	view := rig.View
	var at []memtable.GPA
	view.Log, view.UsedLog = log, 1<<40
	view.Unlogged = func(gpa memtable.GPA, n uint64) { at = append(at, gpa) }
	rig.Queue.Configure(&view)
	rig.Post(16)
	rig.Post(16)
	serve(rig, virtio.Writable)
	for range 2 {
		if got := rig.Take(); got.Len != 16 {
			t.Errorf("%d bytes came back", got.Len)
		}
	}
	if n := rig.Queue.Stats().Unlogged; n < 2 || len(at) != 1 {
		t.Errorf("%d writes are counted, %d are told: %#x", n, len(at), at)
	}
}

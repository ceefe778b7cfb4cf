package virtio_test

import (
	"testing"

	"github.com/vhostd/vhostd/virtio"
	"github.com/vhostd/vhostd/virtio/virtiotest"
)

// shapes are the chains whose cost is looked at: descriptors, and what becomes
// of them.
var shapes = map[string]virtiotest.Request{
	"direct":   {In: []int{64}},
	"chained":  {In: []int{16, 16, 16}},
	"indirect": {In: []int{16, 16, 16}, Shape: virtiotest.Table},
	"tail":     {In: []int{16, 16, 16}, Shape: virtiotest.Tail, Across: true},
}

// loaded is a rig with n chains of one shape available.
func loaded(tb testing.TB, r virtiotest.Request, n int, log bool) *virtiotest.Rig {
	o := virtiotest.DriverOptions{Size: 4096, Features: virtio.FeatureIndirect | virtio.FeatureEventIdx}
	rig := virtiotest.New(tb, virtiotest.Options{DriverOptions: o, Log: log})
	for range n {
		rig.Make(r)
	}
	rig.Publish()
	return rig
}

// TestABurstAllocatesNothing: take, put, publish, with the log and without.
func TestABurstAllocatesNothing(t *testing.T) {
	const runs, burst = 100, 8
	for name, r := range shapes {
		for _, log := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				rig := loaded(t, r, burst*(runs+2), log)
				var b virtio.Burst
				turn := func() {
					rig.Reader.Enter()
					q := rig.Queue
					if q.Begin(rig.Reader) != virtio.Open || q.Take(&b, virtio.Writable, burst+1) != burst+1 {
						t.Fatal("no chains")
					}
					q.Untake(&b, burst)
					for i := range b.N {
						b.Elem[i].Wrote = b.Elem[i].Total
					}
					q.Put(&b)
					q.Publish()
					q.Arm()
					q.End()
					rig.Reader.Leave()
				}
				b.N = 0
				if n := testing.AllocsPerRun(runs, turn); n != 0 {
					t.Errorf("%v allocations a burst", n)
				}
				if s := rig.Queue.Stats(); s.Chains != burst*(runs+1) || s.BadChains != nil {
					t.Errorf("served %d chains, bad ones %v", s.Chains, s.BadChains)
				}
			})
		}
	}
}

// TestTheSimpleRoadAllocatesNothing once it has seen its largest chain.
func TestTheSimpleRoadAllocatesNothing(t *testing.T) {
	const runs = 100
	rig := loaded(t, shapes["chained"], 4*(runs+3), false)
	serveFour := func() {
		rig.Reader.Enter()
		rig.Queue.Begin(rig.Reader)
		for range 4 {
			c, ok := rig.Queue.Next()
			if !ok {
				t.Fatal("no chain")
			}
			_, _ = c.Write([]byte("data"))
			c.Done(c.Wrote())
		}
		rig.Queue.Arm()
		rig.Queue.End()
		rig.Reader.Leave()
	}
	serveFour()
	if n := testing.AllocsPerRun(runs, serveFour); n != 0 {
		t.Errorf("%v allocations for four chains", n)
	}
}

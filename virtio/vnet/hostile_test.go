package vnet_test

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/vhostd/vhostd/virtio"
	"github.com/vhostd/vhostd/virtio/vnet"
)

// A device that lies in a used ring costs itself that ring: it is stopped,
// reported and restarted, every buffer is given back once (rig.balance), and the
// other pair goes on.
func TestALyingUsedRingCostsThatRing(t *testing.T) {
	for name, lie := range map[string]func(used []byte){
		"index":  func(u []byte) { binary.LittleEndian.PutUint16(u[2:], binary.LittleEndian.Uint16(u[2:])+300) },
		"id":     func(u []byte) { element(u, 0xffffffff, 0) },
		"length": func(u []byte) { element(u, 1, 0x7fffffff) },
		"twice":  func(u []byte) { element(u, 1, 14); element(u, 1, 14) },
	} {
		for ring := range 2 {
			t.Run(name, func(t *testing.T) {
				r := newRig(t, rigOptions{pairs: 2, driver: func(c *vnet.DriverConfig) { c.Size = 256 }})
				s := <-r.dev.opened
				w := []*worker{r.worker(0, 64), r.worker(1, 64)}
				w[0].turn(t.Context(), 50, 32)
				r.dev.beDeaf(true)
				w[0].send(8)
				lie(s.Queue(ring).Current().Ring.Used)
				eventually(t, "the lie is found", func() bool {
					w[0].r.Rx(0).Release(w[0].in[:r.Rx(0).Receive(w[0].in)])
					r.Tx(0).Reap()
					return len(r.changes) > 0
				})
				if c := r.change(vnet.QueueBroken); c.Queue != ring || !isUsedError(c.Err) {
					t.Errorf("%+v, want a used error of ring %d", c, ring)
				}
				r.dev.beDeaf(false)
				w[1].turn(t.Context(), 50, 32)
				eventually(t, "the ring was restarted", func() bool {
					s := r.Stats()
					return s.Rx[0].Restarts+s.Tx[0].Restarts > 0
				})
				w[0].settle(t)
			})
		}
	}
}

func isUsedError(err error) bool {
	_, found := errors.AsType[*virtio.UsedError](err)
	return found
}

// element writes the next used element, and shows it.
func element(u []byte, id, n uint32) {
	idx := binary.LittleEndian.Uint16(u[2:])
	at := 4 + 8*int(idx%256)
	binary.LittleEndian.PutUint32(u[at:], id)
	binary.LittleEndian.PutUint32(u[at+4:], n)
	binary.LittleEndian.PutUint16(u[2:], idx+1)
}

// Headers that are none cost the frame: it is counted, its buffers are back.
func TestAHeaderThatIsNoneCostsTheFrame(t *testing.T) {
	put := binary.LittleEndian.PutUint16
	for name, spoil := range map[string]func(h []byte){
		"no buffers":        func(h []byte) { put(h[10:], 0) },
		"all buffers":       func(h []byte) { put(h[10:], 0xffff) },
		"segments unasked":  func(h []byte) { h[0], h[1] = vnet.NeedsCsum, vnet.GSOTCPv4; put(h[4:], 1000); put(h[6:], 14) },
		"kind unknown":      func(h []byte) { h[1] = 77 },
		"checksum unasked":  func(h []byte) { h[0] = vnet.NeedsCsum; put(h[6:], 14) },
		"checksum far away": func(h []byte) { h[0] = vnet.NeedsCsum; put(h[6:], 0xfff0); put(h[8:], 0xfff0) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, rigOptions{})
			w := r.worker(0, 100)
			w.turn(t.Context(), 10, 10)
			r.dev.spoil.Store(&spoil)
			w.send(5)
			eventually(t, "five frames are bad", func() bool {
				if w.receive() > 0 {
					t.Fatal("a bad frame was handed on")
				}
				return r.Stats().Rx[0].Bad == 5
			})
			r.dev.spoil.Store(nil)
			w.got = w.next
			w.turn(t.Context(), 100, 32)
		})
	}
}

// A frame of more buffers than were shown is waited for, and does no harm.
func TestAFrameWithoutItsEndIsWaitedFor(t *testing.T) {
	r := newRig(t, rigOptions{})
	w := r.worker(0, 100)
	more := func(h []byte) { binary.LittleEndian.PutUint16(h[10:], 3) }
	r.dev.spoil.Store(&more)
	for n := 0; n < 2; {
		n += w.send(2 - n)
	}
	eventually(t, "two frames were written", func() bool { return r.dev.sent.Load() == 2 })
	if n := r.Rx(0).Receive(w.in); n != 0 {
		t.Fatalf("%d pieces of a frame that is not complete", n)
	}
	w.send(1)
	eventually(t, "the frame is complete", func() bool {
		n := r.Rx(0).Receive(w.in)
		r.Rx(0).Release(w.in[:n])
		return n == 3 && w.in[0].More && w.in[1].More && !w.in[2].More
	})
}

// Whatever a device writes over its rings, nothing crashes, no buffer is lost,
// and an honest device is served afterwards.
func TestADeviceThatWritesAnythingLosesNoBuffer(t *testing.T) {
	r := newRig(t, rigOptions{driver: func(c *vnet.DriverConfig) { c.Size = 64 }})
	s := <-r.dev.opened
	w := r.worker(0, 64)
	w.old = true
	rnd := rand.New(rand.NewPCG(1, 2))
	rounds := 300
	if testing.Short() {
		rounds = 50
	}
	for range rounds {
		w.send(32)
		if v := s.Queue(rnd.IntN(2)).Current(); v != nil {
			used := v.Ring.Used
			for range rnd.IntN(20) {
				used[rnd.IntN(len(used))] = byte(rnd.Uint32())
			}
		}
		for range 3 {
			r.Rx(0).Release(w.in[:r.Rx(0).Receive(w.in)])
			r.Tx(0).Reap()
		}
	}
	eventually(t, "an honest frame comes back", func() bool {
		w.send(1)
		n := r.Rx(0).Receive(w.in)
		r.Rx(0).Release(w.in[:n])
		return n > 0
	})
}

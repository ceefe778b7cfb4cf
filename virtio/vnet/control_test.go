package vnet_test

import (
	"context"
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio/vnet"
)

// to sends frames to each address, with a VLAN tag unless it is 0, and says which
// of them arrived. A broadcast without a tag ends each round.
func (w *worker) to(vlan uint16, addrs ...[6]byte) (arrived []bool) {
	w.r.t.Helper()
	all := append(addrs, [6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	arrived = make([]bool, len(addrs))
	out := make([]memtable.Buf, len(all))
	if w.r.Tx(w.pair).Get(out) != len(out) {
		w.r.t.Fatal("no buffers")
	}
	for i, a := range all {
		f := make([]byte, 60)
		copy(f, a[:])
		if vlan != 0 && i < len(addrs) {
			f[12] = 0x81
			binary.BigEndian.PutUint16(f[14:], vlan|0x6000)
		}
		f[20] = byte(i)
		vnet.Load(&out[i], f)
	}
	if n := w.r.Tx(w.pair).Send(out); n != len(out) {
		w.r.t.Fatalf("%d of %d were sent", n, len(out))
	}
	eventually(w.r.t, "the last one arrives", func() (last bool) {
		n := w.r.Rx(w.pair).Receive(w.in)
		for i := range w.in[:n] {
			if k := int(w.in[i].Data()[20]); k < len(addrs) {
				arrived[k] = true
			} else {
				last = true
			}
		}
		w.r.Rx(w.pair).Release(w.in[:n])
		return last
	})
	return arrived
}

// Where the device lets everything through, the driver receives what it was
// told to.
func TestFiltersLetThroughWhatWasAskedFor(t *testing.T) {
	r := newRig(t, rigOptions{})
	w := r.worker(0, 0)
	ctx := t.Context()
	own, other, group := r.MAC(), [6]byte{2, 0, 0, 0, 0, 5}, [6]byte{1, 0, 0x5e, 0, 0, 7}
	expect := func(what string, vlan uint16, want ...bool) {
		t.Helper()
		for i, got := range w.to(vlan, own, other, group) {
			if got != want[i] {
				t.Errorf("%s: frame %d arrived %v, want %v", what, i, got, want[i])
			}
		}
	}
	expect("at first", 0, true, true, true)
	ok(t, r.SetPromiscuous(ctx, false))
	expect("not promiscuous", 0, true, false, false)
	ok(t, r.SetMACs(ctx, other, group))
	expect("with a table", 0, true, true, true)
	ok(t, r.SetMACs(ctx))
	ok(t, r.SetAllMulticast(ctx, true))
	expect("all groups", 0, true, false, true)
	ok(t, r.SetMAC(ctx, other))
	if r.MAC() != other {
		t.Errorf("the address is %x", r.MAC())
	}
	expect("another address", 0, false, true, true)
	ok(t, r.SetPromiscuous(ctx, true))
	expect("promiscuous", 5, true, true, true)
	ok(t, r.AddVLAN(ctx, 5))
	expect("VLAN 5 of 5", 5, true, true, true)
	expect("VLAN 6 of 5", 6, false, false, false)
	ok(t, r.RemoveVLAN(ctx, 5))
	expect("VLAN 5 of none", 5, false, false, false)
	if s := r.Stats().Rx[0]; s.Filtered != 2+1+1+3+3 {
		t.Errorf("%d frames were filtered, want 10", s.Filtered)
	}
}

// What makes no sense is refused, and changes nothing.
func TestControlRefusesWhatMakesNoSense(t *testing.T) {
	r := newRig(t, rigOptions{})
	ctx := t.Context()
	for name, err := range map[string]error{
		"a VLAN beyond 4095": r.AddVLAN(ctx, 4096),
		"too many addresses": r.SetMACs(ctx, make([][6]byte, 5000)...),
	} {
		if !errors.Is(err, vnet.ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if r.SetMAC(ctx, [6]byte{1}) == nil || r.SetPairs(ctx, 0) == nil || r.SetPairs(ctx, 2) == nil {
		t.Error("a group's address, no pairs, or more than there are, were taken")
	}
	r.worker(0, 64).turn(ctx, 100, 32)
}

// Pairs go out of use without losing a frame, and come back.
func TestPairsGoOutOfUseAndComeBack(t *testing.T) {
	r := newRig(t, rigOptions{pairs: 3})
	w := []*worker{r.worker(0, 64), r.worker(1, 64), r.worker(2, 64)}
	for _, n := range []int{1, 3, 2, 3, 1, 2} {
		ok(t, r.SetPairs(t.Context(), n))
		if got := r.Stats().Pairs; got != n {
			t.Errorf("%d pairs are in use, want %d", got, n)
		}
		for i, w := range w {
			if i < n {
				w.turn(t.Context(), 100, 32)
			} else if w.send(1) != 0 {
				t.Errorf("pair %d of %d sends", i, n)
			}
		}
	}
	// They stay what they are with the next device.
	r.end()
	r.change(vnet.DeviceLost)
	r.serve()
	r.change(vnet.DeviceBack)
	if w[2].send(1) != 0 {
		t.Error("a pair that is not in use sends")
	}
	w[1].turn(t.Context(), 100, 32)
}

// A pair does not go out of use while the device holds its frames.
func TestAPairIsUsedAgainIfItsFramesDoNotComeBack(t *testing.T) {
	r := newRig(t, rigOptions{pairs: 2})
	w := r.worker(1, 64)
	w.turn(t.Context(), 10, 10)
	r.dev.beDeaf(true)
	w.send(5)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := r.SetPairs(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("frames that nobody takes: %v", err)
	}
	r.dev.beDeaf(false)
	w.turn(t.Context(), 100, 32)
}

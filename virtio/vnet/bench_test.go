package vnet_test

import (
	"testing"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio/vnet"
)

// BenchmarkDriver is bursts of 32 frames through a driver whose device is the
// same goroutine, so that what it does is in the figures.
func BenchmarkDriver(b *testing.B) {
	l, d := newLoopDriver(b, nil)
	perFrame := func(b *testing.B) {
		b.ReportAllocs()
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/burst, "ns/frame")
	}
	bufs, frames := make([]memtable.Buf, burst), make([]vnet.Frame, burst)
	tx, rx := d.Tx(0), d.Rx(0)
	b.Run("send", func(b *testing.B) {
		for b.Loop() {
			tx.Get(bufs)
			for i := range bufs {
				bufs[i].Len = vnet.Headroom + 60
			}
			if tx.Send(bufs) != burst || l.take() != burst {
				b.Fatal("not all frames were sent")
			}
		}
		perFrame(b)
	})
	b.Run("receive", func(b *testing.B) {
		for b.Loop() {
			if l.give(60) != burst || rx.Receive(frames) != burst {
				b.Fatal("not all frames were received")
			}
			rx.Release(frames)
		}
		perFrame(b)
	})
	b.Run("forward", func(b *testing.B) {
		for b.Loop() {
			l.give(60)
			if n := rx.Receive(frames); tx.SendFrames(frames[:n]) != burst || l.take() != burst {
				b.Fatal("not all frames were sent on")
			}
		}
		perFrame(b)
	})
}

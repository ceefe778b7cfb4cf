package vhosttest

import (
	"time"

	"github.com/vhostd/vhostd/virtio/vnet"
)

// Frame makes an Ethernet frame of size bytes whose payload is seeded by mark.
func Frame(dst, src [6]byte, size int, mark byte) []byte {
	f := make([]byte, max(size, 14))
	copy(f, dst[:])
	copy(f[6:], src[:])
	f[12], f[13] = 0x88, 0xb5 // for experiments (IEEE 802)
	for i := range f[14:] {
		f[14+i] = mark + byte(i)
	}
	return f
}

// Send transmits a frame on the first pair; the test fails when there is no
// room for it in time.
func (g *Guest) Send(frame []byte) {
	g.tb.Helper()
	tx := g.Pairs[0].TX
	until := time.Now().Add(Timeout)
	for !tx.Add(vnet.Header{}, frame) {
		if !tx.Wait(until) {
			g.tb.Fatalf("the device took no frame for %v", Timeout)
		}
	}
	tx.Publish()
}

// Recv gives the next frame received on the first pair; nil: none came within d.
func (g *Guest) Recv(d time.Duration) []byte {
	rx := g.Pairs[0].RX
	if !rx.Wait(time.Now().Add(d)) {
		return nil
	}
	buf := make([]byte, txBuffer)
	_, n := rx.Next(buf)
	return buf[:n]
}

package qemutest

import "testing"

// TestGuestsOfTheInstalledQEMU runs what the older QEMU does in another way:
// interrupts without MSI-X, no RESET_DEVICE, no reply to SET_VRING_ENABLE.
func TestGuestsOfTheInstalledQEMU(t *testing.T) {
	l, ctx := newLab(t)
	q, err := InstalledQEMU()
	if err != nil {
		t.Fatal(err) // newLab found it
	}
	if !q.needsINTx() {
		t.Skipf("the installed %v is the one all scenarios run on", q)
	}
	links := []link{{name: "net"}}
	p := bootPair(ctx, t, l, Guest{QEMU: q}, Guest{QEMU: q}, links...)
	t.Run("ping", func(t *testing.T) { p.pings(ctx, t, "net", 20, 1400) })
	t.Run("TCP", func(t *testing.T) { p.streams(ctx, t, p.sideB("net").v4, streamSize) })
	t.Run("the daemon is killed in the middle of a stream", func(t *testing.T) {
		p.restartDaemon(ctx, t, links, p.d.Kill)
	})
	p.healthy(ctx, t)
}

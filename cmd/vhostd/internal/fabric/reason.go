package fabric

import (
	"sync/atomic"

	"github.com/vhostd/vhostd/virtio/vnet"
)

// Reason says why a frame was dropped. The first are [vnet.Verdict]s.
type Reason uint8

// Reasons counted at the port that the frame came from.
const (
	Runt      Reason = Reason(vnet.Verdicts) + iota // no room for an Ethernet header
	Giant                                           // longer than any frame
	BadSource                                       // a group or zero source address
	Hairpin                                         // the destination is where it came from
	Disabled                                        // the queue is started and not enabled
	// Reasons counted at the port that the frame was for.
	PortDown  // no front-end, or no receive queue that runs
	NoBuffers // the guest posted none in time, or only bad ones
	TooSmall  // the buffer is smaller than the frame, and buffers cannot be merged
	Crowded   // other senders kept the receive queue busy
	Vanished  // the receiver's memory did
	reasons
)

var reasonNames = map[Reason]string{
	Runt: "runt", Giant: "giant", BadSource: "bad-source", Hairpin: "hairpin", Disabled: "queue-disabled",
	PortDown: "port-down", NoBuffers: "no-buffers", TooSmall: "buffer-too-small", Crowded: "receive-queue-busy",
	Vanished: "receiver-memory-vanished",
}

func (r Reason) String() string {
	if r < Reason(vnet.Verdicts) {
		return vnet.Verdict(r).String()
	}
	return reasonNames[r]
}

// drops counts frames by reason.
type drops [reasons]atomic.Uint64

func (d *drops) add(r Reason, n int) { d[r].Add(uint64(n)) }

// named gives the reasons that occurred.
func (d *drops) named() map[string]uint64 {
	m := make(map[string]uint64)
	for r := range reasons {
		if n := d[r].Load(); n > 0 {
			m[r.String()] = n
		}
	}
	return m
}

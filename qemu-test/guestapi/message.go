package guestapi

import "encoding/json"

// Port is the name of the virtio-serial port the agent listens at.
const Port = "agent"

// Hello is the guest's first line after a boot. It follows an empty line, so
// that a line the last boot left unfinished does no harm.
type Hello struct {
	Boot   string `json:"boot"`   // the kernel's boot_id: another one is another boot
	Kernel string `json:"kernel"` // release
	CPUs   int    `json:"cpus"`
}

// Request asks for one operation.
type Request struct {
	ID   uint64          `json:"id"`
	Op   string          `json:"op"`
	Args json.RawMessage `json:"args,omitempty"`
}

// Response ends the request of the same id.
type Response struct {
	ID     uint64          `json:"id"`
	Result json.RawMessage `json:"result,omitempty"`
	Error  string          `json:"error,omitempty"` // empty: it worked
}

// Line is any line of the guest: a hello (Boot is set) or a response.
type Line struct {
	Hello
	Response
}

// The operations. Each is named with its arguments and its result.
const (
	OpNetUp      = "net.up"      // NetUp → NetInfo
	OpNetInfo    = "net.info"    // NetName → NetInfo
	OpNetOffload = "net.offload" // NetOffload → NetInfo
	OpNetRebind  = "net.rebind"  // NetName → NetInfo
	OpPing       = "ping"        // Ping → PingResult, when all is sent and answered
	OpPingStart  = "ping.start"  // Ping → Handle, at once
	OpPingStop   = "ping.stop"   // Handle → PingResult
	OpTCPListen  = "tcp.listen"  // nothing → Listening
	OpTCPAccept  = "tcp.accept"  // TCPAccept → StreamResult, when both directions have ended
	OpTCPDial    = "tcp.dial"    // TCPDial → StreamResult, likewise
	OpUDPListen  = "udp.listen"  // Seed → Listening
	OpUDPSend    = "udp.send"    // UDPSend → UDPResult
	OpUDPWait    = "udp.wait"    // UDPWait → UDPResult
	OpRNGRead    = "rng.read"    // Count → Bytes
	OpDiskWrite  = "disk.write"  // DiskWrite → nothing, when it is flushed
	OpDiskZero   = "disk.zero"   // DiskRange → nothing
	OpDiskSum    = "disk.sum"    // DiskRange → Bytes: SHA-256 of what the device gives, not the cache
	OpRead       = "read"        // File → Bytes: below /proc and /sys
	OpMem        = "mem"         // nothing → Mem
	OpMemFill    = "mem.fill"    // Count → Mem: that many bytes are held until reboot
	OpReboot     = "reboot"      // nothing → nothing; a Hello follows
)

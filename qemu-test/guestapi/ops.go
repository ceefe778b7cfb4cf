package guestapi

// NetName names a network interface by its MAC address.
type NetName struct {
	MAC string `json:"mac"`
}

// NetUp sets an interface up.
type NetUp struct {
	MAC   string   `json:"mac"`
	Addrs []string `json:"addrs"`         // with prefix length, both families
	MTU   int      `json:"mtu,omitempty"` // bytes; 0: as it is
}

// Offloads are the interface's switches, named as ethtool(8) names them.
// A missing name is left as it is.
type Offloads map[string]bool

// NetOffload switches offloads.
type NetOffload struct {
	MAC string   `json:"mac"`
	Set Offloads `json:"set"`
}

// NetInfo is an interface as the guest sees it.
type NetInfo struct {
	Name     string            `json:"name"`
	MTU      int               `json:"mtu"`
	Carrier  bool              `json:"carrier"`
	Features uint64            `json:"features"` // negotiated virtio feature bits
	RXQueues int               `json:"rx_queues"`
	TXQueues int               `json:"tx_queues"`
	Offloads Offloads          `json:"offloads"`
	Counters map[string]uint64 `json:"counters"` // of /sys/class/net/*/statistics
}

// Ping says what to ping.
type Ping struct {
	Addr     string `json:"addr"`               // IPv4 or IPv6
	Count    int    `json:"count,omitempty"`    // 0: until ping.stop
	Interval int    `json:"interval,omitempty"` // µs between two requests; 0: 10 ms
	Size     int    `json:"size,omitempty"`     // bytes of payload, at least 16; 0: 56
	Wait     int    `json:"wait,omitempty"`     // ms for the last answers; 0: 1000
}

// PingResult counts requests and answers. Times are in microseconds.
type PingResult struct {
	Sent       int   `json:"sent"`
	Received   int   `json:"received"`
	Duplicates int   `json:"duplicates"`
	Damaged    int   `json:"damaged"` // answers with another payload
	Min        int64 `json:"min"`
	Avg        int64 `json:"avg"`
	Max        int64 `json:"max"`
	Gap        int64 `json:"gap"` // the longest time without an answer
}

// Handle names something that goes on.
type Handle struct {
	Handle uint64 `json:"handle"`
}

// Listening is a socket that waits, and its port.
type Listening struct {
	Handle
	Port int `json:"port"`
}

// Stream is one end of a TCP connection: what it sends, and which stream it
// expects. The sender ends by bytes or by time, whichever comes first.
type Stream struct {
	SendSeed uint64 `json:"send_seed"`
	Bytes    int64  `json:"bytes,omitempty"`   // to send; 0: no such limit
	Millis   int    `json:"millis,omitempty"`  // to send for; 0: no such limit; both 0: send nothing
	RecvSeed uint64 `json:"recv_seed"`         // of the stream that comes
	Timeout  int    `json:"timeout,omitempty"` // ms without progress; 0: 20 s
}

// TCPAccept takes one connection of a listening socket, which ends with it.
type TCPAccept struct {
	Handle
	Stream
}

// TCPDial connects to address:port.
type TCPDial struct {
	Addr string `json:"addr"`
	Stream
}

// StreamResult is what one end sent and got.
type StreamResult struct {
	Sent     Flow `json:"sent"`
	Received Flow `json:"received"`
}

// Flow is one direction of a stream, seen from one end.
type Flow struct {
	Bytes  int64  `json:"bytes"`
	Sum    string `json:"sum"`    // xxHash64 of all bytes
	Micros int64  `json:"micros"` // from the first byte to the last
	Wrong  int64  `json:"wrong"`  // offset of the first byte that is not the stream's; -1: none
}

// Seed starts a pseudo-random stream.
type Seed struct {
	Seed uint64 `json:"seed"`
}

// UDPSend sends numbered datagrams to address:port.
type UDPSend struct {
	Addr     string `json:"addr"`
	Count    int    `json:"count"`
	Size     int    `json:"size"`               // bytes of payload, at least 8
	Interval int    `json:"interval,omitempty"` // µs between two
	Seed     uint64 `json:"seed"`
}

// UDPWait waits for Count datagrams, at most Millis, and ends the listener.
type UDPWait struct {
	Handle
	Count  int `json:"count"`
	Millis int `json:"millis"`
}

// UDPResult counts datagrams.
type UDPResult struct {
	Datagrams  int `json:"datagrams"`
	Duplicates int `json:"duplicates"`
	Damaged    int `json:"damaged"`
}

// Count is a number of bytes.
type Count struct {
	Bytes int64 `json:"bytes"`
}

// Bytes are some bytes.
type Bytes struct {
	Data []byte `json:"data"`
}

// File is a path below /proc or /sys.
type File struct {
	Path string `json:"path"`
}

// Mem is the guest's memory, in bytes.
type Mem struct {
	Total int64 `json:"total"`
	Free  int64 `json:"free"`
	Held  int64 `json:"held"` // by mem.fill
}

// DiskRange is a part of /dev/Name, in bytes and whole pages.
type DiskRange struct {
	Name   string `json:"name"`
	Offset int64  `json:"offset"`
	Bytes  int64  `json:"bytes"`
}

// DiskWrite fills a part of a disk with the noise of a seed.
type DiskWrite struct {
	DiskRange
	Seed uint64 `json:"seed"`
}

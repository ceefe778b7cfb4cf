package control

import "time"

// Queues are the rings of a port, and what was agreed on the way to them.
type Queues struct {
	Port      string    `json:"port"`
	Socket    string    `json:"socket"`
	Role      string    `json:"role"`
	State     string    `json:"state"`
	Peer      string    `json:"peer,omitempty"`
	Since     time.Time `json:"since"`
	Connects  uint64    `json:"connects"`
	LastError *Failure  `json:"last_error,omitempty"`
	Offered   Bits      `json:"offered"`
	Features  Bits      `json:"features"`
	Protocol  Bits      `json:"protocol_features"`
	Status    Hex       `json:"device_status"`
	Logging   bool      `json:"logging"` // writes are logged for migration
	Rings     []Ring    `json:"rings"`
}

// Ring is one virtqueue as both sides see it.
type Ring struct {
	Index   int    `json:"index"`
	Name    string `json:"name"` // virtio 1.2, 5.1.2: receiveq1, transmitq1, …
	Size    uint16 `json:"size"`
	Started bool   `json:"started"`
	Enabled bool   `json:"enabled"`
	Polled  bool   `json:"polled"`           // has no kick, so that it is looked at all the time
	Broken  string `json:"broken,omitempty"` // why

	Desc  Hex `json:"desc_address"` // in the front-end's own space, as the next two
	Avail Hex `json:"avail_address"`
	Used  Hex `json:"used_address"`

	LastAvail  uint16 `json:"last_avail"` // where the daemon is
	LastUsed   uint16 `json:"last_used"`
	AvailFlags uint16 `json:"avail_flags"` // what the driver wrote, with the next two
	AvailIdx   uint16 `json:"avail_idx"`
	UsedEvent  uint16 `json:"used_event"`
	UsedFlags  uint16 `json:"used_flags"` // what the daemon wrote, with the next two
	UsedIdx    uint16 `json:"used_idx"`
	AvailEvent uint16 `json:"avail_event"`

	KickFD int `json:"kick_fd"` // -1: none
	CallFD int `json:"call_fd"`
	ErrFD  int `json:"err_fd"`

	Kicks           uint64            `json:"kicks"` // that woke the daemon
	Calls           uint64            `json:"calls"`
	CallsSuppressed uint64            `json:"calls_suppressed"`
	Bursts          uint64            `json:"bursts"`
	Chains          uint64            `json:"chains"`
	Bytes           uint64            `json:"bytes"` // written to guest memory
	Unlogged        uint64            `json:"unlogged"`
	BadChains       map[string]uint64 `json:"bad_chains"` // by reason
	LastBad         string            `json:"last_bad,omitempty"`
}

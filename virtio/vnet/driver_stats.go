package vnet

import "github.com/vhostd/vhostd/virtio"

// QueueStats are counters of one queue, from the start of the driver on.
type QueueStats struct {
	Frames    uint64 `json:"frames"`     // the device took, or the worker was given
	Bytes     uint64 `json:"bytes"`      // of them, without headers
	Kicks     uint64 `json:"kicks"`      // the device was told
	Restarts  uint64 `json:"restarts"`   // of this ring alone
	NoBuffers uint64 `json:"no_buffers"` // times that the queue's Buffers had too few
	Refused   uint64 `json:"refused"`    // sent: dropped for being no frame; received: buffers too short or not shared
	Lost      uint64 `json:"lost"`       // sent, and the device went without saying so; received, and the device went before they were fetched
	Copied    uint64 `json:"copied"`     // sent from memory that the device does not reach
	Bad       uint64 `json:"bad"`        // received with a header that is none
	TooLong   uint64 `json:"too_long"`   // received in more pieces than there was room for
	Filtered  uint64 `json:"filtered"`   // received, and for nobody here
	Lent      int    `json:"lent"`       // buffers or chains that the device has now
}

// DriverStats are counters of a driver.
type DriverStats struct {
	Present  bool         `json:"present"` // the device is there
	Pairs    int          `json:"pairs"`   // in use
	Lost     uint64       `json:"lost"`    // times that the device was lost
	Restarts uint64       `json:"resets"`  // times that all of it was reset
	Tx       []QueueStats `json:"tx"`
	Rx       []QueueStats `json:"rx"`
}

// Stats tells how the driver does.
func (d *Driver) Stats() DriverStats {
	state := d.now()
	s := DriverStats{Present: state.present, Pairs: state.pairs, Lost: state.lost, Restarts: state.restarts}
	for r := range d.all {
		q := r.snapshot()
		if r.index%2 == 0 {
			s.Rx = append(s.Rx, q)
		} else {
			s.Tx = append(s.Tx, q)
		}
	}
	return s
}

func (r *ring) snapshot() QueueStats {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.stats
	s.Lent = r.q.Lent()
	return s
}

// Change is something that happened to the device.
type Change struct {
	Kind  ChangeKind
	Queue int   // for QueueBroken
	Err   error // why, if that is known
}

// ChangeKind says what happened.
type ChangeKind uint8

// What OnChange hears of.
const (
	// DeviceLost: there is no device. Workers send and receive nothing.
	DeviceLost ChangeKind = iota + 1
	// DeviceBack: there is one again, and traffic goes on.
	DeviceBack
	// DeviceBroken: the device serves nothing, and is being reset.
	DeviceBroken
	// QueueBroken: the device lied in this ring, or serves it no more. The ring
	// is restarted.
	QueueBroken
	// LinkChanged: see Driver.Link.
	LinkChanged
	// ConfigChanged: the MTU, or something else, may be another.
	ConfigChanged
)

var changeNames = [...]string{"", "device lost", "device back", "device broken", "queue broken", "link changed", "config changed"}

func (k ChangeKind) String() string { return changeNames[k] }

// tellChange tells whoever listens.
func (d *Driver) tellChange(c Change) {
	if d.cfg.OnChange != nil {
		d.cfg.OnChange(c)
	}
}

var _ virtio.Pauser = (*Driver)(nil)

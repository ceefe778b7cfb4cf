package vhost

import (
	"fmt"

	"github.com/vhostd/vhostd/virtio"
)

// number asks for a number.
func (c *Conn) number(r Request) (uint64, error) {
	var u U64
	err := c.ask(r, nil, &u)
	return uint64(u), err
}

// GetFeatures asks for the features the back-end offers.
func (c *Conn) GetFeatures() (virtio.Features, error) {
	u, err := c.number(GetFeatures)
	return virtio.Features(u), err
}

// SetFeatures acknowledges features.
func (c *Conn) SetFeatures(f virtio.Features) error { return c.tell(SetFeatures, U64(f)) }

// GetProtocolFeatures asks for the protocol features the back-end offers.
func (c *Conn) GetProtocolFeatures() (ProtocolFeatures, error) {
	u, err := c.number(GetProtocolFeatures)
	return ProtocolFeatures(u), err
}

// SetProtocolFeatures acknowledges protocol features. With REPLY_ACK among
// them, later messages are acknowledged; this one is not, for whether it is
// does not yet stand.
func (c *Conn) SetProtocolFeatures(p ProtocolFeatures) error {
	if err := c.exchange(SetProtocolFeatures, flagVersion, U64(p), nil); err != nil {
		return err
	}
	c.protocol = p
	return nil
}

// SetOwner begins the session.
func (c *Conn) SetOwner() error { return c.tell(SetOwner, nil) }

// ResetOwner sends the deprecated end of a session.
func (c *Conn) ResetOwner() error { return c.tell(ResetOwner, nil) }

// ResetDevice puts the device back to its first state. Memory stays.
func (c *Conn) ResetDevice() error { return c.tell(ResetDevice, nil) }

// GetQueueNum asks how many queues there are; a net device counts pairs.
func (c *Conn) GetQueueNum() (uint64, error) { return c.number(GetQueueNum) }

// GetMaxMemSlots asks how many regions ADD_MEM_REG may add.
func (c *Conn) GetMaxMemSlots() (uint64, error) { return c.number(GetMaxMemSlots) }

// SetMemTable replaces the whole memory table. File i is region i's.
func (c *Conn) SetMemTable(regions []MemRegion, fds []int) error {
	return c.tell(SetMemTable, MemTable(regions), fds...)
}

// AddMemReg adds a region in a memory slot.
func (c *Conn) AddMemReg(r MemRegion, fd int) error { return c.tell(AddMemReg, SingleRegion(r), fd) }

// RemMemReg takes a region away. It is found by address and size.
func (c *Conn) RemMemReg(r MemRegion) error { return c.tell(RemMemReg, SingleRegion(r)) }

// SetLogBase gives the file of the dirty log. With LOG_SHMFD, which it needs,
// it always has a reply; its payload has no meaning (QEMU takes any size).
func (c *Conn) SetLogBase(l LogBase, fd int) error {
	return c.ask(SetLogBase, l, anyPayload{}, fd)
}

// anyPayload is a reply whose content says nothing.
type anyPayload struct{}

// UnmarshalBinary implements encoding.BinaryUnmarshaler.
func (anyPayload) UnmarshalBinary([]byte) error { return nil }

// SetVringNum sets the size of ring i.
func (c *Conn) SetVringNum(i int, size uint32) error { return c.vring(SetVringNum, i, size) }

// SetVringBase sets where ring i goes on.
func (c *Conn) SetVringBase(i int, p virtio.Position) error {
	return c.vring(SetVringBase, i, uint32(p))
}

// SetVringEnable enables ring i, or disables it.
func (c *Conn) SetVringEnable(i int, on bool) error {
	var num uint32
	if on {
		num = 1
	}
	return c.vring(SetVringEnable, i, num)
}

func (c *Conn) vring(r Request, i int, num uint32) error {
	return c.tell(r, VringState{uint32(i), num})
}

// SetVringAddr says where ring a.Index lies.
func (c *Conn) SetVringAddr(a VringAddr) error { return c.tell(SetVringAddr, a) }

// GetVringBase stops ring i and returns where it would have gone on.
func (c *Conn) GetVringBase(i int) (virtio.Position, error) {
	var s VringState
	if err := c.ask(GetVringBase, VringState{Index: uint32(i)}, &s); err != nil {
		return 0, err
	}
	if s.Index != uint32(i) {
		c.broken = &ProtocolError{GetVringBase, fmt.Errorf("asked for ring %d, answered for ring %d", i, s.Index)}
		return 0, c.broken
	}
	return virtio.Position(s.Num), nil
}

// SetVringKick gives ring i's kick file and starts it; fd -1: the back-end
// polls.
func (c *Conn) SetVringKick(i, fd int) error { return c.vringFD(SetVringKick, i, fd) }

// SetVringCall gives ring i's call file; fd -1: it is never signalled.
func (c *Conn) SetVringCall(i, fd int) error { return c.vringFD(SetVringCall, i, fd) }

// SetVringErr gives ring i's error file; fd -1: it is never signalled.
func (c *Conn) SetVringErr(i, fd int) error { return c.vringFD(SetVringErr, i, fd) }

func (c *Conn) vringFD(r Request, i, fd int) error {
	if i < 0 || i > 255 {
		return &ProtocolError{r, fmt.Errorf("ring %d: the message has 8 bits for it", i)}
	}
	if fd < 0 {
		return c.tell(r, VringFD{uint8(i), true})
	}
	return c.tell(r, VringFD{uint8(i), false}, fd)
}

// SetStatus tells the device status (virtio 1.2, 2.1).
func (c *Conn) SetStatus(s uint8) error { return c.tell(SetStatus, U64(s)) }

// GetStatus asks for the device status.
func (c *Conn) GetStatus() (uint8, error) {
	u, err := c.number(GetStatus)
	return uint8(u), err
}

// NetSetMTU tells the MTU of the front-end's side.
func (c *Conn) NetSetMTU(mtu uint16) error { return c.tell(NetSetMTU, U64(mtu)) }

// SendRARP asks the back-end to announce mac after a migration.
func (c *Conn) SendRARP(mac [6]byte) error {
	var b [8]byte // the address is in memory order, whatever the number's
	copy(b[:], mac[:])
	return c.tell(SendRARP, U64(order.Uint64(b[:])))
}

// GetConfig reads size bytes of the config space at off.
func (c *Conn) GetConfig(off, size int) ([]byte, error) {
	var got configReply
	ask := Config{Offset: uint32(off), Size: uint32(size), Data: make([]byte, max(size, 0))}
	if err := c.ask(GetConfig, ask, &got); err != nil {
		return nil, err
	}
	switch {
	case got.refused:
		return nil, &RefusedError{Request: GetConfig, Code: 1}
	case len(got.Data) != size:
		c.broken = &ProtocolError{GetConfig, fmt.Errorf("asked for %d bytes, answered with %d", size, len(got.Data))}
		return nil, c.broken
	}
	return append([]byte(nil), got.Data...), nil
}

// configReply is a Config, or nothing at all, which means failure (vhost-user,
// GET_CONFIG).
type configReply struct {
	Config
	refused bool
}

// UnmarshalBinary implements encoding.BinaryUnmarshaler.
func (r *configReply) UnmarshalBinary(p []byte) error {
	if r.refused = len(p) == 0; r.refused {
		return nil
	}
	return r.Config.UnmarshalBinary(p)
}

// SetConfig writes p into the config space at off; live: as a migration does,
// read-only fields too.
func (c *Conn) SetConfig(off int, p []byte, live bool) error {
	w := Config{Offset: uint32(off), Size: uint32(len(p)), Data: p}
	if live {
		w.Flags = ConfigLive
	}
	return c.tell(SetConfig, w)
}

package vnet

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
)

// Commands of the control queue by class (virtio 1.2, 5.1.6.5).
const (
	classRX       = 0
	classMAC      = 1
	classVLAN     = 2
	classAnnounce = 3
	classMQ       = 4

	rxPromisc  = 0
	rxAllMulti = 1
	rxAllUni   = 2
	rxNoMulti  = 3
	rxNoUni    = 4
	rxNoBcast  = 5

	macTable = 0
	macAddr  = 1

	vlanAdd = 0
	vlanDel = 1

	announceAck = 0
	mqPairs     = 0
)

// ErrRefused is a control command that the device did not take.
var ErrRefused = errors.New("the device refused the command")

// control carries commands as they go through a control queue. Behind
// vhost-user there is none, and the driver answers them itself (localControl).
type control interface {
	// command does one command; an error wraps ErrRefused if it was not taken.
	command(ctx context.Context, class, cmd uint8, data []byte) error
}

// tell sends a command, in turn with all else that control does.
func (d *Driver) tell(ctx context.Context, class, cmd uint8, data []byte) error {
	d.ctl.Lock()
	defer d.ctl.Unlock()
	if d.now().closing {
		return ErrClosed
	}
	return d.control.command(ctx, class, cmd, data)
}

// SetPairs uses the first n queue pairs, of those that were opened. Frames that
// wait in the others' transmit rings are waited for until ctx ends: a device
// drops what it finds in a ring that is not in use.
func (d *Driver) SetPairs(ctx context.Context, n int) error {
	if n < 1 || n > d.cfg.Pairs {
		return fmt.Errorf("%d queue pairs: the driver was opened with %d", n, d.cfg.Pairs)
	}
	select {
	case d.pairing <- struct{}{}:
		defer func() { <-d.pairing }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	// Meanwhile the device may die and come back, and the driver be closed: both
	// give frames back too, and neither has to wait for us.
	before := d.now().pairs
	d.hold(min(n, before))
	err := drain(ctx, d.tx[min(n, before):before])
	if err == nil {
		err = d.tell(ctx, classMQ, mqPairs, binary.LittleEndian.AppendUint16(nil, uint16(n)))
	}
	d.hold(d.now().pairs)
	return err
}

// SetPromiscuous receives all frames, or only those for the driver's address,
// those of SetMACs and broadcasts. A driver is promiscuous at first.
func (d *Driver) SetPromiscuous(ctx context.Context, on bool) error {
	return d.tell(ctx, classRX, rxPromisc, []byte{flag(on)})
}

// SetAllMulticast receives all frames for groups.
func (d *Driver) SetAllMulticast(ctx context.Context, on bool) error {
	return d.tell(ctx, classRX, rxAllMulti, []byte{flag(on)})
}

func flag(on bool) byte {
	if on {
		return 1
	}
	return 0
}

// SetMACs says for which addresses, besides the driver's own, frames are received
// that is not promiscuous: all of them, in the place of those before.
func (d *Driver) SetMACs(ctx context.Context, addrs ...[6]byte) error {
	var tables [2][]byte // unicast, multicast
	var n [2]uint32
	for _, a := range addrs {
		tables[a[0]&1] = append(tables[a[0]&1], a[:]...)
		n[a[0]&1]++
	}
	var data []byte
	for i := range tables {
		data = append(binary.LittleEndian.AppendUint32(data, n[i]), tables[i]...)
	}
	return d.tell(ctx, classMAC, macTable, data)
}

// SetMAC changes the driver's own address.
func (d *Driver) SetMAC(ctx context.Context, mac [6]byte) error {
	if mac[0]&1 != 0 {
		return fmt.Errorf("address %x is a group's", mac)
	}
	if err := d.tell(ctx, classMAC, macAddr, mac[:]); err != nil {
		return err
	}
	d.edit(func(s *state) { s.mac = mac })
	return nil
}

// AddVLAN receives tagged frames of VLAN id, and from the first call on of no
// other that was not added. Frames without a tag are always received.
func (d *Driver) AddVLAN(ctx context.Context, id uint16) error {
	return d.tell(ctx, classVLAN, vlanAdd, binary.LittleEndian.AppendUint16(nil, id))
}

// RemoveVLAN receives no more tagged frames of VLAN id.
func (d *Driver) RemoveVLAN(ctx context.Context, id uint16) error {
	return d.tell(ctx, classVLAN, vlanDel, binary.LittleEndian.AppendUint16(nil, id))
}

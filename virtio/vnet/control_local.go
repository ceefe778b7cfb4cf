package vnet

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync/atomic"
)

// localControl answers control commands where no device does: behind vhost-user
// the control queue is never the back-end's. Filters work in software, and pairs
// are chosen by enabling rings.
type localControl struct {
	rules  *filter                 // as it is told
	filter *atomic.Pointer[filter] // as Rx reads it; nil: everything is received
	pairs  func(ctx context.Context, n int) error
}

// maxFilter bounds the addresses of a table.
const maxFilter = 4096

func newLocalControl(mac [6]byte, out *atomic.Pointer[filter], pairs func(context.Context, int) error) *localControl {
	return &localControl{rules: &filter{mac: mac, promisc: true}, filter: out, pairs: pairs}
}

// command implements control.
func (c *localControl) command(ctx context.Context, class, cmd uint8, data []byte) error {
	next := c.rules.clone()
	ok := false
	switch class {
	case classRX:
		ok = next.mode(cmd, data)
	case classMAC:
		ok = next.addresses(cmd, data)
	case classVLAN:
		ok = next.vlan(cmd, data)
	case classAnnounce:
		ok = cmd == announceAck && len(data) == 0
	case classMQ:
		if cmd == mqPairs && len(data) == 2 {
			return c.pairs(ctx, int(binary.LittleEndian.Uint16(data)))
		}
	}
	if !ok {
		return fmt.Errorf("control command %d.%d of %d bytes: %w", class, cmd, len(data), ErrRefused)
	}
	c.rules = next
	if next.passes() {
		next = nil
	}
	c.filter.Store(next)
	return nil
}

// mode switches what is received by kind (virtio 1.2, 5.1.6.5.1).
func (f *filter) mode(cmd uint8, data []byte) bool {
	modes := [...]*bool{
		rxPromisc: &f.promisc, rxAllMulti: &f.allMulti, rxAllUni: &f.allUni,
		rxNoMulti: &f.noMulti, rxNoUni: &f.noUni, rxNoBcast: &f.noBcast,
	}
	if int(cmd) >= len(modes) || len(data) != 1 || data[0] > 1 {
		return false
	}
	*modes[cmd] = data[0] == 1
	return true
}

// addresses takes the tables of addresses, or our own (virtio 1.2, 5.1.6.5.2).
func (f *filter) addresses(cmd uint8, data []byte) bool {
	if cmd == macAddr {
		if len(data) != 6 || data[0]&1 != 0 {
			return false
		}
		f.mac = [6]byte(data)
		return true
	}
	var tables [2]map[[6]byte]struct{}
	for i := range tables {
		if len(data) < 4 {
			return false
		}
		n := uint64(binary.LittleEndian.Uint32(data))
		if data = data[4:]; n > maxFilter || n*6 > uint64(len(data)) {
			return false
		}
		tables[i] = make(map[[6]byte]struct{}, n)
		for range n {
			tables[i][[6]byte(data)] = struct{}{}
			data = data[6:]
		}
	}
	f.unicast, f.multi = tables[0], tables[1]
	return cmd == macTable && len(data) == 0
}

// vlan adds or removes one (virtio 1.2, 5.1.6.5.3).
func (f *filter) vlan(cmd uint8, data []byte) bool {
	if len(data) != 2 || cmd > vlanDel {
		return false
	}
	id := binary.LittleEndian.Uint16(data)
	if id > 4095 {
		return false
	}
	if f.vlans == nil {
		f.vlans = make(map[uint16]struct{})
	}
	if cmd == vlanAdd {
		f.vlans[id] = struct{}{}
	} else {
		delete(f.vlans, id)
	}
	return true
}

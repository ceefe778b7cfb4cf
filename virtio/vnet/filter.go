package vnet

import "maps"

// filter says which frames a driver wants whose device lets all of them through
// (virtio 1.2, 5.1.6.5.1 to 5.1.6.5.3). It is not changed once it is in use.
type filter struct {
	mac      [6]byte
	promisc  bool
	allMulti bool
	allUni   bool
	noMulti  bool
	noUni    bool
	noBcast  bool
	unicast  map[[6]byte]struct{}
	multi    map[[6]byte]struct{}
	vlans    map[uint16]struct{} // nil: all
}

// wants says whether a frame is for us. It has an Ethernet header.
func (f *filter) wants(frame []byte) bool {
	if f.vlans != nil && frame[12] == 0x81 && frame[13] == 0 {
		// Only what has a tag is asked about: the other frames have no VLAN.
		if len(frame) < minFrame+2 {
			return false
		}
		if _, ok := f.vlans[uint16(frame[14]&0xf)<<8|uint16(frame[15])]; !ok {
			return false
		}
	}
	to := [6]byte(frame)
	switch {
	case f.promisc:
		return true
	case to == broadcast:
		return !f.noBcast
	case to[0]&1 != 0:
		_, listed := f.multi[to]
		return !f.noMulti && (f.allMulti || listed)
	}
	_, listed := f.unicast[to]
	return !f.noUni && (f.allUni || listed || to == f.mac)
}

var broadcast = [6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// clone is a filter to change.
func (f *filter) clone() *filter {
	c := *f
	c.vlans = maps.Clone(f.vlans)
	return &c
}

// passes says that the filter lets everything through.
func (f *filter) passes() bool { return f.promisc && f.vlans == nil }

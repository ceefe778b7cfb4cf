package daemon

import (
	"fmt"

	"github.com/vhostd/vhostd/cmd/vhostd/internal/control"
	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/vhost"
	"github.com/vhostd/vhostd/virtio"
)

// bits names feature bits as devices of type id have them.
func bits(id virtio.DeviceID, f virtio.Features) control.Bits {
	names := f.Names(id)
	if names == nil {
		names = []string{} // [], not null
	}
	return control.Bits{Bits: control.Hex(f), Names: names}
}

func stateOf(info vhost.Info) string {
	for _, r := range info.Rings {
		if r.Started {
			return control.Running
		}
	}
	return control.Connected
}

// memoryOf translates a front-end's memory table.
func memoryOf(port string, info vhost.Info) control.Memory {
	m := control.Memory{
		Port: port, Peer: info.Peer, Slots: info.Memory.Slots, Changed: info.Memory.Changed,
		ByGuest: indexOf(info.Memory.ByGPA), ByPeer: indexOf(info.Memory.ByUVA), Regions: []control.Region{},
	}
	for _, r := range info.Memory.Regions {
		m.Size += r.Size
		m.Resident += r.Resident
		m.Regions = append(m.Regions, control.Region{
			Guest: control.Hex(r.GPA), Peer: control.Hex(r.UVA), Size: r.Size,
			Device: control.Hex(r.File.Dev), Inode: r.File.Ino, Offset: r.Offset, PageSize: r.PageSize,
			Seals: r.Seals, Resident: r.Resident, Mapped: r.At, Since: r.Since,
		})
	}
	return m
}

func indexOf(i memtable.IndexInfo) control.Index {
	return control.Index{Kind: i.Kind, Frame: i.Frame, Bytes: i.Bytes}
}

// queuesOf translates a connection and its rings; p is its port, id what it is.
func queuesOf(id virtio.DeviceID, p control.Port, info vhost.Info) control.Queues {
	q := control.Queues{
		Port: p.Name, Socket: p.Socket, Role: p.Role, State: p.State, Peer: p.Peer, Since: p.Since,
		Connects: p.Connects, LastError: p.LastError, Offered: p.Offered, Features: p.Features,
		Protocol: control.Bits{Bits: control.Hex(info.Protocol), Names: info.Protocol.Names()},
		Status:   control.Hex(info.Status), Logging: info.Logging, Rings: []control.Ring{},
	}
	for _, r := range info.Rings {
		q.Rings = append(q.Rings, ringOf(id, r))
	}
	return q
}

// ringName is the specification's (virtio 1.2, 5.1.2 and 5.2.2).
func ringName(id virtio.DeviceID, index int) string {
	if id == virtio.Block {
		return fmt.Sprintf("requestq%d", index+1)
	}
	if index%2 == 0 {
		return fmt.Sprintf("receiveq%d", index/2+1)
	}
	return fmt.Sprintf("transmitq%d", index/2+1)
}

func ringOf(id virtio.DeviceID, r vhost.RingInfo) control.Ring {
	return control.Ring{
		Index: r.Index, Name: ringName(id, r.Index), Size: r.Size,
		Started: r.Started, Enabled: r.Enabled, Polled: r.Polled, Broken: r.Broken,
		Desc: control.Hex(r.Desc), Avail: control.Hex(r.Avail), Used: control.Hex(r.Used),
		LastAvail: r.Indices.LastAvail, LastUsed: r.Indices.LastUsed,
		AvailFlags: r.Indices.AvailFlags, AvailIdx: r.Indices.AvailIdx, UsedEvent: r.Indices.UsedEvent,
		UsedFlags: r.Indices.UsedFlags, UsedIdx: r.Indices.UsedIdx, AvailEvent: r.Indices.AvailEvent,
		KickFD: r.KickFD, CallFD: r.CallFD, ErrFD: r.ErrFD,
		Kicks: r.Kicks, Calls: r.Stats.Calls, CallsSuppressed: r.Stats.CallsSuppressed,
		Bursts: r.Stats.Bursts, Chains: r.Stats.Chains, Bytes: r.Stats.Bytes, Unlogged: r.Stats.Unlogged,
		BadChains: r.Stats.BadChains, LastBad: r.Stats.LastBad,
	}
}

package probe

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"

	"github.com/vhostd/vhostd/virtio"
)

// field is where a field of a configuration space lies, and the feature bit that
// gives it a meaning.
type field struct {
	off, size int
	bit       int // -1: always
	name      string
	show      func([]byte) string // nil: as a number
}

// spaces are the configuration spaces (virtio 1.2, 5.1.4, 5.2.4, 5.10.4, 5.11.4).
var spaces = map[virtio.DeviceID][]field{
	virtio.Net: {
		{0, 6, 5, "mac", func(b []byte) string { return net.HardwareAddr(b).String() }},
		{6, 2, 16, "status", nil}, {8, 2, 22, "max_virtqueue_pairs", nil}, {10, 2, 3, "mtu", nil},
		{12, 4, 63, "speed", nil}, {16, 1, 63, "duplex", nil},
	},
	virtio.Block: {
		{0, 8, -1, "capacity", sectors},
		{8, 4, 1, "size_max", nil}, {12, 4, 2, "seg_max", nil},
		{16, 2, 4, "geometry.cylinders", nil}, {18, 1, 4, "geometry.heads", nil}, {19, 1, 4, "geometry.sectors", nil},
		{20, 4, 6, "blk_size", nil},
		{24, 1, 10, "topology.physical_block_exp", nil}, {25, 1, 10, "topology.alignment_offset", nil},
		{26, 2, 10, "topology.min_io_size", nil}, {28, 4, 10, "topology.opt_io_size", nil},
		{32, 1, 11, "writeback", nil}, {34, 2, 12, "num_queues", nil},
		{36, 4, 13, "max_discard_sectors", nil}, {40, 4, 13, "max_discard_seg", nil}, {44, 4, 13, "discard_sector_alignment", nil},
		{48, 4, 14, "max_write_zeroes_sectors", nil}, {52, 4, 14, "max_write_zeroes_seg", nil}, {56, 1, 14, "write_zeroes_may_unmap", nil},
	},
	virtio.Vsock: {{0, 8, -1, "guest_cid", nil}},
	virtio.FS: {
		{0, 36, -1, "tag", func(b []byte) string { return string(bytes.TrimRight(b, "\x00")) }},
		{36, 4, -1, "num_request_queues", nil},
	},
}

// configSize is how much is asked of a device: all fields that are known here, in
// QEMU's size for block devices. Who is not known is asked for what the smallest
// has.
func configSize(id virtio.DeviceID) (n int) {
	for _, f := range spaces[id] {
		n = max(n, f.off+f.size)
	}
	if n == 0 {
		return 8
	}
	return n
}

// fields takes a configuration space apart.
func fields(id virtio.DeviceID, have virtio.Features, b []byte) (all []Field) {
	for _, f := range spaces[id] {
		if f.off+f.size > len(b) {
			continue
		}
		raw, value := b[f.off:f.off+f.size], ""
		if f.show != nil {
			value = f.show(raw)
		} else {
			value = fmt.Sprint(number(raw))
		}
		all = append(all, Field{f.name, value, f.bit < 0 || have>>f.bit&1 == 1})
	}
	return all
}

// number reads a little-endian number (virtio 1.2, 1.4).
func number(b []byte) uint64 {
	var wide [8]byte
	copy(wide[:], b)
	return binary.LittleEndian.Uint64(wide[:])
}

// sectors shows a capacity in sectors of 512 bytes.
func sectors(b []byte) string {
	n := number(b)
	if n > 1<<54 {
		return fmt.Sprintf("%d sectors", n) // its bytes are no number of 64 bits
	}
	return fmt.Sprintf("%d sectors (%d bytes)", n, n*512)
}

// value finds a field that has a meaning.
func (r *Report) value(name string) (n uint64, ok bool) {
	for i, f := range r.Config {
		if f.Name == name && f.Valid {
			at := spaces[r.id][i]
			return number(r.config[at.off : at.off+at.size]), true
		}
	}
	return 0, false
}

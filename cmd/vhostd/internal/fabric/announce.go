package fabric

import (
	"encoding/binary"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio"
	"github.com/vhostd/vhostd/virtio/vnet"
)

// minFrame is the shortest Ethernet frame, without its checksum.
const minFrame = 60

// Announce sends the RARP broadcast that tells the other ports where a guest
// lives now (vhost-user, SEND_RARP), as QEMU itself would: a request about the
// guest's own address (RFC 903).
func (c *conn) Announce(address [6]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.herald == nil {
		c.herald = newWorker(c, 0)
	}
	if err := memtable.Guard(func() error { c.herald.inject(rarp(address)); return nil }); err != nil {
		c.port.sw.log.Warn("announcement lost", "port", c.port.opts.Name, "error", err)
	}
}

// rarp makes the frame.
func rarp(address [6]byte) []byte {
	f := make([]byte, minFrame)
	copy(f, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	copy(f[6:], address[:])
	be := binary.BigEndian
	be.PutUint16(f[12:], 0x8035) // RARP
	be.PutUint16(f[14:], 1)      // Ethernet
	be.PutUint16(f[16:], 0x0800) // IPv4
	f[18], f[19] = 6, 4
	be.PutUint16(f[20:], 3) // reverse request
	copy(f[22:], address[:])
	copy(f[32:], address[:])
	return f
}

// inject sends one frame of ours as if it came from the worker's port. Its
// counters do not count it.
func (w *worker) inject(data []byte) {
	mem := memtable.Wrap(append(make([]byte, vnet.MaxHeader), data...), memtable.FileID{}, 0, nil)
	defer mem.Close()
	r := w.sw.domain.JoinFor(w.from.session, w.from.port.opts.Name+" announce")
	defer r.Close()
	r.Enter()
	defer r.Leave()
	w.begin(r)
	size := uint32(mem.Size())
	w.tx.N = 1
	w.tx.Elem[0] = virtio.Elem{Seg: virtio.Seg{VA: mem.VA(), Len: size}, Total: size, Segs: 1}
	m := &w.frames[0]
	if _, ok := m.read(&w.tx, 0, virtio.FeatureVersion1); !ok {
		return
	}
	w.sw.fdb.learn(m.src, w.from.port.slot, w.now)
	w.route(0, m.dst)
	w.send()
}

package vhosttest

import (
	"context"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/vhost"
	"github.com/vhostd/vhostd/virtio"
)

// Timeout bounds every wait of a guest: what takes longer fails the test.
const Timeout = 10 * time.Second

// Options of a guest; zero values mean a plain one.
type Options struct {
	Features virtio.Features // asked for, of those that are offered; 0: VERSION_1
	Pairs    int             // queue pairs; 0: 1
	Size     uint16          // of each ring; 0: 256
	Buffer   int             // size of a receive buffer in bytes; 0: 2048
	Split    bool            // transmit the header and the frame in two descriptors
	Indirect bool            // transmit through indirect tables
	Poll     bool            // ask for no calls; without EVENT_IDX
	Hole     bool            // no receive buffers are posted
	Table    bool            // SET_MEM_TABLE although there are memory slots
}

// Where a guest's memory begins, and what may be done with addresses there: the
// front-end's virtual address differs, so that one is not taken for the other.
const (
	guestBase = 0x4000_0000
	userShift = 0x7f00_0000_0000
)

// Guest is a front-end with a driver. It is for one goroutine.
type Guest struct {
	Conn     *vhost.Conn
	Features virtio.Features // negotiated
	Region   vhost.MemRegion // of its memory
	FD       int             // of its memory
	Pairs    []*Pair

	tb  testing.TB
	o   Options
	mem []byte
}

// Pair is a receive and a transmit queue.
type Pair struct{ RX, TX *Ring }

// Plug connects to the back-end that listens on path and starts all rings. The
// guest is unplugged when tb ends.
func Plug(tb testing.TB, path string, o Options) *Guest {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Timeout)
	defer cancel()
	conn, err := vhost.DialConn(ctx, path, Timeout)
	if err != nil {
		tb.Fatalf("connect: %v", err)
	}
	g := &Guest{Conn: conn, tb: tb, o: o.defaults()}
	tb.Cleanup(g.Unplug)
	g.negotiate()
	g.share()
	for i := range g.o.Pairs {
		p := &Pair{RX: g.ring(2 * i), TX: g.ring(2*i + 1)}
		p.RX.fill()
		g.Pairs = append(g.Pairs, p)
		for _, r := range []*Ring{p.RX, p.TX} {
			g.start(r)
		}
	}
	return g
}

func (o Options) defaults() Options {
	if o.Features == 0 {
		o.Features = virtio.FeatureVersion1
	}
	o.Pairs = max(o.Pairs, 1)
	if o.Size == 0 {
		o.Size = 256
	}
	if o.Buffer == 0 {
		o.Buffer = 2048
	}
	return o
}

// must fails the test when the back-end refused.
func (g *Guest) must(what string, err error) {
	g.tb.Helper()
	if err != nil {
		g.tb.Fatalf("%s: %v", what, err)
	}
}

func (g *Guest) negotiate() {
	g.tb.Helper()
	offered, err := g.Conn.GetFeatures()
	g.must("GET_FEATURES", err)
	protocol, err := g.Conn.GetProtocolFeatures()
	g.must("GET_PROTOCOL_FEATURES", err)
	g.must("SET_PROTOCOL_FEATURES", g.Conn.SetProtocolFeatures(protocol))
	g.must("SET_OWNER", g.Conn.SetOwner())
	g.Features = offered & (g.o.Features | virtio.FeatureProtocol)
	g.must("SET_FEATURES", g.Conn.SetFeatures(g.Features))
}

// share makes the memory and gives it to the back-end.
func (g *Guest) share() {
	g.tb.Helper()
	size := g.o.memory()
	fd, err := unix.MemfdCreate("guest", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	g.must("memfd_create", err)
	g.FD = fd
	g.must("ftruncate", unix.Ftruncate(fd, int64(size)))
	g.mem, err = unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	g.must("mmap", err)
	g.Region = vhost.MemRegion{GPA: guestBase, UVA: guestBase + userShift, Size: uint64(size)}
	if g.o.Table {
		g.must("SET_MEM_TABLE", g.Conn.SetMemTable([]vhost.MemRegion{g.Region}, []int{fd}))
		return
	}
	g.must("ADD_MEM_REG", g.Conn.AddMemReg(g.Region, fd))
}

// start tells the back-end of a ring and starts it, in QEMU's order.
func (g *Guest) start(r *Ring) {
	g.tb.Helper()
	i := r.index
	g.must("SET_VRING_NUM", g.Conn.SetVringNum(i, uint32(r.size)))
	g.must("SET_VRING_BASE", g.Conn.SetVringBase(i, 0))
	g.must("SET_VRING_ADDR", g.Conn.SetVringAddr(r.addr()))
	g.must("SET_VRING_CALL", g.Conn.SetVringCall(i, r.call))
	g.must("SET_VRING_KICK", g.Conn.SetVringKick(i, r.kick))
	g.must("SET_VRING_ENABLE", g.Conn.SetVringEnable(i, true))
}

// addr tells where the ring lies.
func (r *Ring) addr() vhost.VringAddr {
	at := func(off int) memtable.UVA { return guestBase + userShift + memtable.UVA(off) }
	return vhost.VringAddr{Index: uint32(r.index), Desc: at(r.desc), Avail: at(r.avail), Used: at(r.used)}
}

// Unplug closes the connection and forgets the memory.
func (g *Guest) Unplug() {
	_ = g.Conn.Close()
	for _, p := range g.Pairs {
		for _, r := range []*Ring{p.RX, p.TX} {
			_ = unix.Close(r.kick)
			_ = unix.Close(r.call)
		}
	}
	g.Pairs = nil
	if g.mem != nil {
		_ = unix.Munmap(g.mem)
		_ = unix.Close(g.FD)
		g.mem = nil
	}
}

package fabric

import (
	"encoding"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/vhost"
	"github.com/vhostd/vhostd/vhost/vhosttest"
	"github.com/vhostd/vhostd/virtio"
)

// Flags of a message's header (vhost-user, "Header").
const (
	version   = 1
	needReply = 8
)

// cost is what a bad message costs its sender.
type cost int

const (
	refusable cost = iota // a "no" if the sender asked for an answer, else its connection
	deadly                // the connection
	tolerated             // a "no" if the sender asked for an answer, else nothing
)

// badMessage is sent while both of the sender's rings run.
type badMessage struct {
	name    string
	request vhost.Request
	payload encoding.BinaryAppender
	cost    cost
	file    func(*vhosttest.Guest) []int
}

// bytesOf encodes a payload.
func bytesOf(tb testing.TB, p encoding.BinaryAppender) []byte {
	tb.Helper()
	if p == nil {
		return nil
	}
	b, err := p.AppendBinary(nil)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// raw is a payload byte by byte.
type raw []byte

func (r raw) AppendBinary(b []byte) ([]byte, error) { return append(b, r...), nil }

// zeros is a payload without meaning.
func zeros(n int) raw { return make(raw, n) }

// table encodes regions as SET_MEM_TABLE carries them, however many it says
// there are.
func table(says uint32, regions ...vhost.MemRegion) raw {
	b := binary.NativeEndian.AppendUint32(nil, says)
	b = binary.NativeEndian.AppendUint32(b, 0)
	for _, r := range regions {
		p, _ := vhost.SingleRegion(r).AppendBinary(nil) // it has no error
		b = append(b, p[8:]...)
	}
	return b
}

// own is the region that every guest of these tests shares.
var own = vhost.MemRegion{GPA: 0x4000_0000, UVA: 0x7f00_4000_0000, Size: 0x10000}

// moved is own elsewhere.
func moved(change func(*vhost.MemRegion)) vhost.MemRegion {
	r := own
	r.GPA, r.UVA = r.GPA+1<<40, r.UVA+1<<40
	change(&r)
	return r
}

func files(n int) func(*vhosttest.Guest) []int {
	return func(g *vhosttest.Guest) (fds []int) {
		for range n {
			fds = append(fds, g.FD)
		}
		return fds
	}
}

// badMessages is the table: ranges first, then what is about memory.
func badMessages() []badMessage {
	var list []badMessage
	for _, id := range []vhost.Request{0, 45, 99, 1 << 16, 1<<32 - 1} {
		list = append(list, badMessage{name: "unknown " + id.String(), request: id, payload: zeros(8), cost: tolerated})
	}
	for _, ring := range []uint32{2, 255, 1 << 8, 1 << 16, 1 << 31, 1<<32 - 1} {
		state, of := vhost.VringState{Index: ring, Num: 1}, fmt.Sprintf(" of ring %d", ring)
		list = append(list,
			badMessage{"size" + of, vhost.SetVringNum, state, refusable, nil},
			badMessage{"base" + of, vhost.SetVringBase, state, refusable, nil},
			badMessage{"enable" + of, vhost.SetVringEnable, state, refusable, nil},
			badMessage{"address" + of, vhost.SetVringAddr, vhost.VringAddr{Index: ring, Desc: own.UVA, Avail: own.UVA, Used: own.UVA}, refusable, nil},
			badMessage{"stop" + of, vhost.GetVringBase, state, deadly, nil}) // its reply cannot say no
	}
	for _, request := range []vhost.Request{vhost.SetVringKick, vhost.SetVringCall, vhost.SetVringErr} {
		list = append(list, badMessage{"file for a ring that is not", request, vhost.VringFD{Index: 2, NoFD: true}, refusable, nil},
			badMessage{"file for the last ring there could be", request, vhost.VringFD{Index: 255}, refusable, files(1)})
	}
	for _, size := range []int{0, 7, 9, 16, 4096} {
		name := fmt.Sprintf("payload of %d bytes", size)
		list = append(list,
			badMessage{name, vhost.SetFeatures, zeros(size), refusable, nil},
			badMessage{name, vhost.SetVringNum, zeros(size), refusable, nil},
			badMessage{name, vhost.SetVringAddr, zeros(size), refusable, nil},
			badMessage{name, vhost.AddMemReg, zeros(size), refusable, files(1)},
			badMessage{name, vhost.SetMemTable, zeros(size), refusable, files(1)},
			badMessage{name, vhost.SetLogBase, zeros(max(size, 1) - 1), deadly, files(1)})
	}
	list = append(list,
		badMessage{"payload for one that has none", vhost.GetFeatures, zeros(8), deadly, nil},
		badMessage{"more than is offered", vhost.SetFeatures, vhost.U64(1<<64 - 1), refusable, nil},
		badMessage{"packed rings", vhost.SetFeatures, vhost.U64(virtio.FeatureVersion1 | virtio.FeatureProtocol | virtio.FeaturePacked), refusable, nil},
		badMessage{"none, while rings run", vhost.SetFeatures, vhost.U64(0), refusable, nil},
		badMessage{"more than is offered", vhost.SetProtocolFeatures, vhost.U64(vhost.ProtocolPageFault | vhost.ProtocolReplyAck), refusable, nil},
		badMessage{"in-band notifications alone", vhost.SetProtocolFeatures, vhost.U64(vhost.ProtocolInband), deadly, nil},
		badMessage{"nine bits", vhost.SetStatus, vhost.U64(0x100), refusable, nil},
		badMessage{"64 bits", vhost.SetStatus, vhost.U64(1 << 63), refusable, nil},
		badMessage{"0", vhost.NetSetMTU, vhost.U64(0), refusable, nil},
		badMessage{"67", vhost.NetSetMTU, vhost.U64(67), refusable, nil},
		badMessage{"2^16, which would wrap to 0", vhost.NetSetMTU, vhost.U64(1 << 16), refusable, nil},
		badMessage{"twice", vhost.SetVringEnable, vhost.VringState{Index: 0, Num: 2}, refusable, nil},
		badMessage{"in flight", vhost.GetInflightFD, zeros(24), deadly, nil},
		badMessage{"in flight", vhost.SetInflightFD, zeros(24), refusable, files(1)},
		badMessage{"a file that was not asked for", vhost.SetVringNum, vhost.VringState{Index: 0, Num: 256}, refusable, files(1)},
	)
	return append(list, badMemory()...)
}

// badMemory are the messages about regions and the dirty log.
func badMemory() []badMessage {
	one := func(name string, r vhost.MemRegion) badMessage {
		return badMessage{"region " + name, vhost.AddMemReg, vhost.SingleRegion(r), refusable, files(1)}
	}
	many := func(name string, p raw, n int) badMessage {
		return badMessage{"table " + name, vhost.SetMemTable, p, refusable, files(n)}
	}
	log := func(name string, l vhost.LogBase, n int) badMessage {
		return badMessage{"log " + name, vhost.SetLogBase, l, deadly, files(n)}
	}
	nine := make([]vhost.MemRegion, 9)
	for i := range nine {
		nine[i] = moved(func(r *vhost.MemRegion) {
			r.GPA += 1 << 30 * (1 + memtable.GPA(i))
			r.UVA += 1 << 30 * (1 + memtable.UVA(i))
		})
	}
	there := moved(func(*vhost.MemRegion) {})
	beside := moved(func(r *vhost.MemRegion) { r.GPA += 1 << 30; r.UVA += 1 << 30 })
	return []badMessage{
		one("over another in the guest", moved(func(r *vhost.MemRegion) { r.GPA = own.GPA + 0x1000 })),
		one("over another in the front-end", moved(func(r *vhost.MemRegion) { r.UVA = own.UVA - 0x1000 })),
		one("that wraps in the guest", moved(func(r *vhost.MemRegion) { r.GPA = 1<<64 - 0x1000 })),
		one("that wraps in the front-end", moved(func(r *vhost.MemRegion) { r.UVA = 1<<64 - 0x1000 })),
		one("without a byte", moved(func(r *vhost.MemRegion) { r.Size = 0 })),
		one("of 2^64-1 bytes", moved(func(r *vhost.MemRegion) { r.Size = 1<<64 - 1 })),
		one("past the end of its file", moved(func(r *vhost.MemRegion) { r.Offset = 1 << 40 })),
		one("at an offset that wraps", moved(func(r *vhost.MemRegion) { r.Offset = 1<<64 - 0x1000 })),
		{"region without a file", vhost.AddMemReg, vhost.SingleRegion(there), refusable, nil},
		{"region with two files", vhost.AddMemReg, vhost.SingleRegion(there), refusable, files(2)},
		many("of nothing", table(0), 1),
		many("of nine", table(9, nine...), 9),
		many("that says 2^32-1", table(1<<32-1, there), 1),
		many("that says two of one", table(2, there), 2),
		many("with one file for two", table(2, there, beside), 1),
		many("with eight files for nine", table(9, nine...), 8),
		many("that overlaps itself", table(2, there, there), 2),
		many("whose second wraps", table(2, there, moved(func(r *vhost.MemRegion) { r.GPA = 1<<64 - 0x1000 })), 2),
		many("whose second is empty", table(2, there, moved(func(r *vhost.MemRegion) { r.Size = 0 })), 2),
		log("of nothing", vhost.LogBase{}, 1),
		log("of 2^64-1 bytes", vhost.LogBase{Size: 1<<64 - 1}, 1),
		log("past the end of its file", vhost.LogBase{Size: 4096, Offset: 1 << 40}, 1),
		log("whose end wraps", vhost.LogBase{Size: 4096, Offset: 1<<64 - 4096}, 1),
		log("without a file", vhost.LogBase{Size: 4096}, 0),
	}
}

// send sends the message with flags and says what came of it: a reply's payload,
// or false when the connection ended.
func (m badMessage) send(s *scene, g *vhosttest.Guest, flags uint32) (reply []byte, alive bool) {
	s.tb.Helper()
	var fds []int
	if m.file != nil {
		fds = m.file(g)
	}
	err := g.Conn.Send(m.request, flags, bytesOf(s.tb, m.payload), fds...)
	if err == nil && flags&needReply == 0 { // a question, to hear whether anyone is there
		_ = g.Conn.Send(vhost.GetFeatures, version, nil)
	}
	if err != nil {
		s.tb.Fatal(err)
	}
	_, _, reply, _, err = g.Conn.Receive()
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, unix.ECONNRESET) {
		s.tb.Fatalf("neither answer nor end: %v", err)
	}
	return reply, err == nil
}

func TestABadMessageCostsItsConnectionAtMost(t *testing.T) {
	s := stage(t, PortOptions{MTU: 1500})
	for i, m := range badMessages() {
		if testing.Short() && i%4 != 0 {
			continue
		}
		s.act(t, m.request.String()+"/"+m.name+"/acknowledged", func(s *scene) {
			g := s.enter(vhosttest.Options{})
			session := s.session()
			reply, alive := m.send(s, g, version|needReply)
			if m.cost == deadly {
				s.expelled(session)
				return
			}
			if !alive || len(reply) != 8 || binary.NativeEndian.Uint64(reply) == 0 {
				s.tb.Fatalf("not refused: connection lives %v, reply % x", alive, reply)
			}
			s.works(g)
		})
		s.act(t, m.request.String()+"/"+m.name+"/bare", func(s *scene) {
			g := s.enter(vhosttest.Options{})
			session := s.session()
			_, alive := m.send(s, g, version)
			if alive != (m.cost == tolerated) {
				s.tb.Fatalf("the connection lives: %v", alive)
			}
			if !alive {
				s.expelled(session)
				return
			}
			s.works(g)
		})
	}
	s.flow.end()
}

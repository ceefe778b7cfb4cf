package fabric

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/vhost"
	"github.com/vhostd/vhostd/vhost/vhosttest"
	"github.com/vhostd/vhostd/virtio"
)

const tebi = 1 << 40

// ok fails the test unless err is nil.
func (s *scene) ok(err error) {
	s.tb.Helper()
	if err != nil {
		s.tb.Fatal(err)
	}
}

func TestASparseGiantCostsItsSenderNothing(t *testing.T) {
	s := stage(t, PortOptions{})
	s.act(t, "8 TiB", func(s *scene) {
		g := s.enter(vhosttest.Options{})
		fd := s.memfd(8*tebi, 0)
		giant := vhost.MemRegion{GPA: 16 * tebi, UVA: 0x100_0000_0000, Size: 8 * tebi}
		s.ok(g.Conn.AddMemReg(giant, fd))
		for what, index := range map[string]memtable.IndexInfo{
			"guest": s.session().Info().Memory.ByGPA, "front-end": s.session().Info().Memory.ByUVA,
		} {
			if index.Bytes > 4<<20 {
				s.tb.Errorf("the index by %s address is %q and takes %d bytes", what, index.Kind, index.Bytes)
			}
		}
		// A frame that lies in its last pages, and over both sides of a frame of
		// the index, is found.
		const page = 4096
		frame := vhosttest.Frame(address(witnessPort), address(culpritPort), 700, 9)
		for i, off := range []int64{0, 1<<30 - 100, 7*tebi + 1<<21 - 100, 8*tebi - 712} {
			begin := off &^ (page - 1)
			mem, err := unix.Mmap(fd, begin, int(min(2*page, 8*tebi-begin)), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
			s.ok(err)
			frame[14] = byte(i)
			copy(mem[off-begin+12:], frame)
			tx := g.Pairs[0].TX
			tx.Reap()
			tx.Describe(vhosttest.Spare(0), vhosttest.Desc{Addr: uint64(giant.GPA) + uint64(off), Len: 712})
			tx.Expose(vhosttest.Spare(0))
			tx.Publish()
			if got := s.witness.Recv(vhosttest.Timeout); string(got) != string(frame) {
				s.tb.Errorf("a frame at %#x arrived as %d bytes", off, len(got))
			}
			tx.Back()
			s.ok(unix.Munmap(mem))
		}
	})
	s.flow.end()
}

// Address space is the daemon's, and all ports need it.
func TestNobodyTakesAllAddressSpace(t *testing.T) {
	s := stage(t, PortOptions{})
	s.act(t, "one region", func(s *scene) {
		g := s.enter(vhosttest.Options{})
		if g.Conn.AddMemReg(vhost.MemRegion{GPA: 1 << 50, UVA: 1 << 50, Size: 64 * tebi}, s.memfd(64*tebi, 0)) == nil {
			s.tb.Error("64 TiB were mapped for one front-end")
		}
		s.works(g)
	})
	s.act(t, "one after the other", func(s *scene) {
		g := s.enter(vhosttest.Options{})
		fd, mapped := s.memfd(4*tebi, 0), 0
		for i := range 16 {
			r := vhost.MemRegion{GPA: 1<<50 + memtable.GPA(i)*4*tebi, UVA: 1<<50 + memtable.UVA(i)*4*tebi, Size: 4 * tebi}
			if g.Conn.AddMemReg(r, fd) == nil {
				mapped++
			}
		}
		if mapped == 0 || mapped >= 8 {
			s.tb.Errorf("%d regions of 4 TiB were mapped for one front-end", mapped)
		}
		s.works(g)
	})
	s.flow.end()
}

func TestADirtyLogThatVanishesCostsItsOwnConnection(t *testing.T) {
	s := stage(t, PortOptions{})
	for _, what := range []string{"what is received", "the used ring"} {
		s.act(t, what, func(s *scene) {
			g := s.enter(vhosttest.Options{})
			session := s.session()
			log := s.memfd(1<<20, 0)
			s.ok(g.Conn.SetLogBase(vhost.LogBase{Size: 1 << 20}, log))
			if what == "the used ring" {
				s.ok(g.Conn.SetVringAddr(g.Pairs[0].TX.Logged()))
			}
			s.ok(g.Conn.SetFeatures(g.Features | virtio.FeatureLogAll))
			s.works(g)
			s.ok(unix.Ftruncate(log, 0))
			if what == "the used ring" {
				g.Send(vhosttest.Frame(address(witnessPort), address(culpritPort), 60, 0))
			} else {
				s.witness.Send(vhosttest.Frame(address(culpritPort), address(witnessPort), 60, 0))
			}
			s.expelled(session)
		})
	}
	s.flow.end()
}

func TestMemoryThatVanishesBeforeARingStartsCostsItsOwnConnection(t *testing.T) {
	s := stage(t, PortOptions{})
	for _, punch := range []bool{false, true} {
		name := map[bool]string{false: "truncated", true: "truncated and asked about"}[punch]
		s.act(t, name, func(s *scene) {
			g := s.enter(vhosttest.Options{})
			session := s.session()
			s.works(g)
			_, err := g.Conn.GetVringBase(1)
			s.ok(err)
			s.ok(unix.Ftruncate(g.FD, 0))
			if punch {
				session.Info() // reads the rings
			}
			if g.Conn.SetVringKick(1, s.eventfd(0)) == nil {
				s.tb.Error("a ring without memory was started")
			}
			s.expelled(session)
		})
	}
	s.flow.end()
}

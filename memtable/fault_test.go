package memtable_test

import (
	"bytes"
	"errors"
	"runtime/debug"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/memtable"
)

// vanish truncates the file of fd to nothing, touches, and restores the size.
func vanish(fd int, touch func()) error {
	if err := unix.Ftruncate(fd, 0); err != nil {
		return err
	}
	defer unix.Ftruncate(fd, 4096)
	return memtable.Guard(func() error { touch(); return nil })
}

// checkFault wants err to blame the owner of m for a byte of m.
func checkFault(t *testing.T, m *memtable.Mapping, err error) {
	t.Helper()
	fault, ok := errors.AsType[*memtable.FaultError](err)
	if !ok {
		t.Errorf("got %v, want a FaultError", err)
		return
	}
	off := uint64(fault.Addr - addressOf(m.VA()))
	if off >= m.Size() || fault.Owner != m.Owner() || fault.File != m.File() || fault.Offset != m.Offset()+int64(off) {
		t.Errorf("fault %+v does not fit the mapping of %v at %v", fault, m.Owner(), m.VA())
	}
}

func TestVanishedMemoryIsAnErrorOfItsOwner(t *testing.T) {
	fd := memfd(t, 4096)
	m := mapped(t, fd, 0, 4096, "the peer")
	other := mapped(t, memfd(t, 4096), 0, 4096, "a bystander")
	mem := m.Bytes()
	sink := make([]byte, 4096)
	for name, touch := range map[string]func(){
		"load":          func() { sink[0] = mem[4095] },
		"store":         func() { mem[1] = 2 },
		"copy from":     func() { copy(sink, mem) },
		"copy to":       func() { copy(mem, sink) },
		"copy across":   func() { copy(other.Bytes(), mem) },
		"clear":         func() { clear(mem) },
		"compare":       func() { bytes.Equal(mem, sink) },
		"atomic load":   func() { atomicLoad(m.VA()) },
		"atomic store":  func() { atomicStore(m.VA()) },
		"atomic or":     func() { atomicOr(m.VA()) },
		"log of itself": func() { markAll(t, m) },
	} {
		t.Run(name, func(t *testing.T) { checkFault(t, m, vanish(fd, touch)) })
	}
	if err := memtable.Guard(func() error { mem[0]++; return nil }); err != nil {
		t.Error("the memory is back, but:", err)
	}
}

func markAll(t *testing.T, m *memtable.Mapping) {
	l, err := memtable.NewLog(m)
	if err != nil {
		t.Error(err)
		return
	}
	l.Mark(0, 1<<20)
}

func TestStoreToReadOnlyMappingIsAFault(t *testing.T) {
	m, err := memtable.MapFile(memfd(t, 4096), 0, 4096, memtable.MapOptions{ReadOnly: true, Owner: "reader"})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	checkFault(t, m, memtable.Guard(func() error { m.Bytes()[9] = 1; return nil }))
}

// noAccess is memory that faults at every touch.
func noAccess(t *testing.T) []byte {
	t.Helper()
	mem, err := unix.Mmap(-1, 0, 1<<16, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Munmap(mem) })
	return mem
}

func TestMostExactMappingIsBlamed(t *testing.T) {
	mem := noAccess(t)
	whole := memtable.Wrap(mem, memtable.FileID{Ino: 1}, 0, "arena")
	defer whole.Close()
	part := memtable.Wrap(mem[4096:8192], memtable.FileID{Ino: 1}, 4096, "tenant")
	defer part.Close()
	checkFault(t, part, memtable.Guard(func() error { mem[5000] = 1; return nil }))
	checkFault(t, whole, memtable.Guard(func() error { mem[9000] = 1; return nil }))
}

func TestOtherPanicsAreNotOurs(t *testing.T) {
	mem := noAccess(t)
	closed := memtable.Wrap(mem[:4096], memtable.FileID{}, 0, "gone")
	closed.Close()
	for name, f := range map[string]func(){
		"nil pointer":         func() { var p *int; *p = 1 },
		"index":               func() { _ = mem[len(mem):][0] },
		"a value":             func() { panic("mine") },
		"memory of nobody":    func() { mem[8192] = 1 },
		"memory of the dead":  func() { mem[0] = 1 },
		"error with an Addr?": func() { panic(errors.New("Addr")) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				r := recover()
				if r == nil {
					t.Fatal("Guard swallowed the panic")
				}
				if fault, ok := memtable.AsFault(r); ok {
					t.Errorf("AsFault took it for %v", fault)
				}
			}()
			t.Error(memtable.Guard(func() error { f(); return nil }))
		})
	}
}

func TestGuardHandsOnTheErrorAndRestoresTheSetting(t *testing.T) {
	mem := noAccess(t)
	m := memtable.Wrap(mem, memtable.FileID{}, 0, "x")
	defer m.Close()
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(false))
	mine := errors.New("mine")
	for _, old := range []bool{false, true} {
		debug.SetPanicOnFault(old)
		if err := memtable.Guard(func() error { return mine }); err != mine {
			t.Errorf("Guard: %v, want %v", err, mine)
		}
		if now := debug.SetPanicOnFault(old); now != old {
			t.Errorf("after a return it is %v, was %v", now, old)
		}
		checkFault(t, m, memtable.Guard(func() error { mem[0] = 1; return nil }))
		if now := debug.SetPanicOnFault(old); now != old {
			t.Errorf("after a fault it is %v, was %v", now, old)
		}
	}
	debug.SetPanicOnFault(false)
	if first, second := memtable.Faults(), memtable.Faults(); first || !second {
		t.Errorf("Faults gave %v, then %v", first, second)
	}
}

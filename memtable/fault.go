package memtable

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"weak"
)

// FaultError says that memory of a peer vanished while it was in use: its file
// was truncated or punched, or there was no huge page left to back it. Owner is
// the owner of the mapping, whose connection should end.
type FaultError struct {
	Addr   uintptr // in this process
	Owner  any
	File   FileID
	Offset int64 // in the file, of the byte that faulted
}

func (e *FaultError) Error() string {
	return fmt.Sprintf("memory at 0x%x vanished (offset %d of file %d:%d): its file was truncated or punched, "+
		"or no huge page was left to back it", e.Addr, e.Offset, e.File.Dev, e.File.Ino)
}

// Faults makes faults of the calling goroutine panics that [AsFault] knows,
// instead of the end of the process. It holds for this goroutine only and is
// not inherited. old is what was set before.
func Faults() (old bool) { return debug.SetPanicOnFault(true) }

// AsFault tells whether what recover gave is a fault in one of our mappings.
// If not, it was a bug of ours: panic again.
func AsFault(recovered any) (*FaultError, bool) {
	fault, ok := recovered.(interface {
		runtime.Error
		Addr() uintptr
	})
	if !ok {
		return nil, false
	}
	addr := fault.Addr()
	m := mappings.find(addr)
	if m == nil {
		return nil, false
	}
	at := int64(addr - m.VA().number())
	return &FaultError{Addr: addr, Owner: m.owner, File: m.file, Offset: m.off + at}, true
}

// Guard calls f and turns a fault in one of our mappings into a *[FaultError].
// Every other panic goes on. Locks that f holds without defer stay held.
func Guard(f func() error) (err error) {
	old := Faults()
	defer func() {
		debug.SetPanicOnFault(old)
		recovered := recover()
		if recovered == nil {
			return
		}
		fault, ok := AsFault(recovered)
		if !ok {
			panic(recovered)
		}
		err = fault
	}()
	return f()
}

// registry knows every living mapping, so that a fault's address finds whom to
// blame. It holds mappings weakly: wrapped memory that is dropped without Close
// can be collected.
type registry struct {
	mu  sync.Mutex
	all map[weak.Pointer[Mapping]]struct{}
}

var mappings = registry{all: make(map[weak.Pointer[Mapping]]struct{})}

func (r *registry) add(m *Mapping) {
	w := weak.Make(m)
	r.mu.Lock()
	r.all[w] = struct{}{}
	r.mu.Unlock()
	runtime.AddCleanup(m, r.drop, w)
}

func (r *registry) remove(m *Mapping) { r.drop(weak.Make(m)) }

func (r *registry) drop(w weak.Pointer[Mapping]) {
	r.mu.Lock()
	delete(r.all, w)
	r.mu.Unlock()
}

// find gives the mapping that holds addr; of several (memory wrapped twice) the
// smallest, which is the most exact. A walk is good enough: it is paid once
// for the end of a connection.
func (r *registry) find(addr uintptr) (found *Mapping) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for w := range r.all {
		m := w.Value()
		if m != nil && m.contains(addr) && (found == nil || m.Size() < found.Size()) {
			found = m
		}
	}
	return found
}

package memfd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/vhostd/vhostd/memtable"
)

var (
	// ErrOverlap says that external memory would have addresses in common
	// with memory that the arena knows already, or has space reserved for.
	ErrOverlap = memtable.ErrOverlap
	// ErrMisaligned says that an address, an offset or a size is no multiple
	// of the page size, or that the page size is none.
	ErrMisaligned = errors.New("not a multiple of the page size")
	// ErrAddrs says that there is not one address for each page.
	ErrAddrs = errors.New("give one address for each page, or none at all")
	// ErrNoAddress says that nobody knows where memory is for a device.
	ErrNoAddress = errors.New("its addresses for devices are not known: give one for each page (ExternalOptions.Addrs)")
	// ErrNoFile says that memory has no file, so that no other process can have
	// it: no peer, though it is shared, and no secondary.
	ErrNoFile = errors.New("the memory has no file, so it cannot be shared with another process: map it from a memfd (ExternalOptions.File)")
	// ErrUnknown says that there is no such external memory, or no more.
	ErrUnknown = errors.New("no such external memory")
)

// External is memory of somebody else that an arena knows: look-ups find it, and
// mirrors have it if it is shared. The arena lends nothing of it, except by a
// heap that it was added to ([ExternalHeap]).
type External struct {
	name  string
	arena *Arena

	zeroed bool // it is a heap's, and has to be zero

	// These are set under Arena.mu, as it becomes a part of the arena.
	class *class
	hold  *memtable.Mapping // so that a fault in it is blamed on it
}

// ExternalOptions says what somebody else's memory is like.
type ExternalOptions struct {
	// Mem is the memory. It stays the caller's, and stays mapped until it is
	// unregistered or removed, or the arena is closed.
	Mem []byte

	// File is what Mem is mapped from, as shared memory, and Offset where in
	// it Mem begins, in bytes. Mirrors may send it to their peers, and
	// secondaries map it, shared or not, to read and write, at the same
	// addresses: what lies where the kernel chose to put it may not be free
	// there. It may be closed here at once. nil: there is no file, or no one
	// may have it; mirrors and secondaries do without this memory.
	File   *os.File
	Offset int64

	Page uint64 // page size in bytes: what all addresses are multiples of; 0: the system's
	Node int    // NUMA node, or AnyNode; in an arena without nodes it does not matter

	// Addrs has the address for devices of each page. nil: with IOVAAsVA it
	// is the address here; with IOVAAsPA nobody knows, and then the memory
	// cannot be shared, nor lent where a device has to find it.
	Addrs []memtable.IOVA

	Shared bool // mirrors get it
}

// Register makes memory known by a name that no other external memory has. If
// mirrors are to have it, it waits for them. Errors wrap ErrName, ErrExists,
// ErrSize, ErrMisaligned, ErrAddrs, ErrNoAddress, ErrOverlap or ErrClosed, or are
// a *RefusedError of a mirror; then nothing has changed. Where there is a
// *QuarantineError too, a mirror did not let go again: the memory must stay mapped
// until Arena.Reclaim succeeds.
func (a *Arena) Register(ctx context.Context, name string, o ExternalOptions) (*External, error) {
	x := &External{name: name, arena: a}
	if err := a.users.known.enter(a, "external memory", name, x); err != nil {
		return nil, err
	}
	if err := a.admit(ctx, x, o); err != nil {
		a.users.known.leave(name, x)
		return nil, fmt.Errorf("external memory %q: %w", name, err)
	}
	return x, nil
}

// External gives the external memory of a name; nil if there is none. That which
// was added to heaps has no name of its own.
func (a *Arena) External(name string) *External {
	n := &a.users.known
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.of[name]
}

// Name is what the memory, or the heap that it was added to, is called.
func (x *External) Name() string {
	if x == nil {
		return ""
	}
	return x.name
}

// String is for whoever shows the owner of a memtable.FaultError.
func (x *External) String() string { return fmt.Sprintf("external memory %q", x.name) }

// Unregister ends that the arena knows the memory. Mirrors let go of it, and
// workers are waited for. After a *QuarantineError that has not succeeded: the
// memory must stay mapped, and Unregister or Arena.Reclaim can be called again.
// Once it is out, the error wraps ErrUnknown.
func (x *External) Unregister(ctx context.Context) error {
	if err := x.arena.expel(ctx, x); err != nil {
		return fmt.Errorf("external memory %q: %w", x.name, err)
	}
	return nil
}

// admit takes memory into the arena.
func (a *Arena) admit(ctx context.Context, x *External, o ExternalOptions) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c, err := a.newExternalClass(x, o)
	if err != nil {
		return err
	}
	if o.File != nil {
		f, err := adopt(a.k, o.File)
		if err != nil {
			return err
		}
		c.setFile(f)
	}
	if err := a.include(c, o); err != nil {
		if c.file != nil {
			_ = a.k.close(c.file.fd)
		}
		return err
	}
	if x.zeroed {
		if err := memtable.Guard(func() error { clear(o.Mem); return nil }); err != nil {
			a.locked(func() { a.move(c.all(), leaving) })
			return errors.Join(err, a.depart(context.WithoutCancel(ctx), c.all()))
		}
	}
	return a.arrive(ctx, c.all(), o.Shared)
}

// adopt gives a file of ours for one of the caller's.
func adopt(k kernel, from *os.File) (*file, error) {
	fd, err := k.duplicate(int(from.Fd()))
	runtime.KeepAlive(from)
	if err != nil {
		return nil, err
	}
	f := &file{fd: fd}
	if f.id, err = k.identify(f.fd); err != nil {
		_ = k.close(f.fd)
		return nil, err
	}
	return f, nil
}

// expel takes memory out of the arena.
func (a *Arena) expel(ctx context.Context, x *External) error {
	var p part
	var err error
	leaves := false
	a.locked(func() {
		if x.class == nil || !a.outside.has(x.class) {
			err = ErrUnknown
			return
		}
		p = x.class.all()
		switch x.class.slots[0].state { // that of all of them
		case live:
			leaves = true
		case quarantined: // again
		default:
			err = fmt.Errorf("it is on its way: %w", ErrBusy)
			return
		}
		a.move(p, leaving)
	})
	if err != nil {
		return err
	}
	if leaves {
		a.tell(Event{Kind: Leaving, Extents: a.extents(p)})
	}
	return a.depart(ctx, p)
}

// expelAll does it with all external memory.
func (a *Arena) expelAll(ctx context.Context) (err error) {
	for _, c := range a.outside.all() {
		if fail := a.expel(ctx, c.ext); !errors.Is(fail, ErrUnknown) {
			err = errors.Join(err, fail)
		}
	}
	return err
}

package memfd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/memtable"
)

// Secondary is the memory of an arena of another process, the primary, at the
// same addresses as there. It follows all that the primary maps and unmaps, and
// may ask it for memory. Its methods may be called from any goroutine.
//
// When the primary ends, or gives this process up because it did not answer in
// time, Done is closed: what is mapped stays mapped, and asking for memory gives
// ErrPrimary.
type Secondary struct {
	o    AttachOptions
	k    kernel
	c    *conn
	plot plot
	done chan struct{}

	// work is held over what changes mappings, by the reader and by Close.
	work  sync.Mutex
	table memtable.Cell[memtable.Table[memtable.IOVA]]

	asking  chan struct{} // held by who asks for something
	answers chan answer
	asked   uint32 // guarded by asking
	reader  sync.WaitGroup

	mu       sync.Mutex
	spaces   []*mirrored // those of the plot
	outside  []*mirrored // external memory, by address
	files    map[memtable.FileID]*lentFile
	watchers []*watcher
	waiting  uint32 // what is asked for; 0: nothing
	err      error
	closed   bool
}

// AttachOptions says how a process appears to the primary.
type AttachOptions struct {
	Name   string           // for people; "": the name of the program
	Domain *memtable.Domain // workers that use the memory: they are waited for before some is unmapped; nil: none

	// NoExternal leaves the external memory of the primary out, except what
	// Secondary.AttachExternal asks for. Otherwise all that has a file is
	// mapped as it comes, and where its addresses are taken here the primary
	// cannot add it, and does not let this process attach.
	NoExternal bool
}

// Attach connects to the primary that serves at path, and maps all memory it
// has. It fails if this process has something else at the addresses of the
// arena: then Options.Base of the primary should be another.
func Attach(ctx context.Context, path string, o AttachOptions) (*Secondary, error) {
	return attach(ctx, linux{}, path, o)
}

func attach(ctx context.Context, k kernel, path string, o AttachOptions) (*Secondary, error) {
	if o.Name == "" {
		o.Name = filepath.Base(os.Args[0])
		o.Name = o.Name[:min(len(o.Name), MaxName)]
	}
	c, err := new(net.Dialer).DialContext(ctx, "unixpacket", path)
	if err != nil {
		return nil, fmt.Errorf("no primary at %s: %w", path, err)
	}
	s := newSecondary(k, c.(*net.UnixConn), o)
	// Until it is attached, listening ends with ctx.
	stop := context.AfterFunc(ctx, func() { _ = s.c.c.CloseRead() })
	err = s.begin()
	if !stop() {
		err = context.Cause(ctx)
	}
	if err != nil {
		err = fmt.Errorf("attaching to the primary at %s: %w", path, err)
		if fail := s.unmapAll(); fail != nil {
			err = errors.Join(err, fail)
		} else {
			s.detach()
		}
		s.c.close()
		return nil, err
	}
	s.reader.Go(s.read)
	return s, nil
}

func newSecondary(k kernel, c *net.UnixConn, o AttachOptions) *Secondary {
	return &Secondary{o: o, k: k, c: newConn(c, true), done: make(chan struct{}),
		asking: make(chan struct{}, 1), answers: make(chan answer, 1), files: make(map[memtable.FileID]*lentFile)}
}

// begin is the way to being attached.
func (s *Secondary) begin() error {
	if err := s.clear(); err != nil {
		return err
	}
	// If that cannot be sent there may still be something to read: why.
	_ = s.c.write(time.Time{}, sayHello, 0, func(e *encoder) {
		e.u64(wireMagic)
		e.text(s.o.Name)
		e.flag(!s.o.NoExternal)
	})
	m, err := s.next()
	if err != nil {
		return err
	}
	defer m.dismiss()
	if m.verb != sayWindows {
		return &wireError{"something else than its address space"}
	}
	if s.plot, err = decodePlot(m.body); err != nil {
		return err
	}
	refusal := s.reserve()
	if err := cmp.Or(refusal, s.acknowledge(m.seq, refusal)); err != nil {
		return err
	}
	for {
		m, err := s.next()
		if err != nil {
			return err
		}
		if m.verb == sayAttached {
			m.dismiss()
			return m.body.end()
		}
		if err := s.hear(&m); err != nil {
			return err
		}
	}
}

// next reads a message on the way to being attached.
func (s *Secondary) next() (message, error) {
	m, err := s.c.read(time.Time{})
	if errors.Is(err, unix.ECONNRESET) {
		// It has ended without having read all we said, but not without a word.
		m, err = s.c.read(time.Time{})
	}
	if errors.Is(err, io.EOF) {
		err = ErrPrimary
	}
	if err == nil && m.verb == sayRefused {
		err = errors.Join(decodeError(&m.body), m.body.end())
		m.dismiss()
		if err == nil {
			err = &wireError{"a refusal without a reason"}
		}
	}
	return m, err
}

// read follows the primary until it ends.
func (s *Secondary) read() {
	for {
		m, err := s.c.read(time.Time{})
		if err == nil {
			err = s.hear(&m)
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				_ = s.c.c.CloseWrite() // there will be no more answers
			}
			s.end(err)
			return
		}
	}
}

// hear takes one message. After an error there is no sense in going on.
func (s *Secondary) hear(m *message) error {
	defer m.dismiss()
	switch m.verb {
	case sayArrive, sayLeave:
		more, runs, err := decodeRuns(m.body, &s.plot, m.count())
		if err != nil {
			return err
		}
		s.work.Lock()
		defer s.work.Unlock()
		if s.isClosed() {
			return nil // the primary will read that instead of an answer
		}
		if m.verb == sayArrive {
			err = s.arrive(more, runs, m)
		} else {
			err = s.leave(s.stretches(more, runs))
		}
		if broken, ok := errors.AsType[*brokenError](err); ok {
			return broken
		}
		return s.acknowledge(m.seq, err)
	case sayResult:
		return s.hearResult(m)
	}
	return &wireError{fmt.Sprintf("a message of kind %d, which is not for it to send", m.verb)}
}

// count is how many files runs may name; -1: none are needed.
func (m *message) count() int {
	if m.verb == sayLeave {
		return -1
	}
	return len(m.files)
}

func (s *Secondary) acknowledge(seq uint32, refusal error) error {
	return s.c.write(time.Now().Add(s.plot.deadline), sayAck, seq, func(e *encoder) { encodeError(e, refusal) })
}

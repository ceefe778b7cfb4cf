package vhost

import (
	"errors"
	"fmt"
	"math"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio"
)

// maxInflight bounds what is mapped of a record, in bytes. The largest that 256
// rings of 32768 descriptors can need is half of it.
const maxInflight = 256 << 20

// inflight is the memory in which the rings of a session mark what they have
// taken and not given back. The front-end keeps its file, and gives it to the
// next back-end.
type inflight struct {
	mapping *memtable.Mapping
	rings   []*virtio.Record // from ring 0 on
}

// record is where ring i marks what is in flight; nil: nowhere.
func (s *Session) record(i int) *virtio.Record {
	if s.inflight == nil || i >= len(s.inflight.rings) {
		return nil
	}
	return s.inflight.rings[i]
}

// checkInflight refuses a record of other rings than the device can have. Both
// numbers are 16 bits, so what they need is bounded.
func (s *Session) checkInflight(i Inflight) (size uint64, err error) {
	n := i.QueueSize
	switch {
	case i.Queues == 0 || int(i.Queues) > s.spec.Queues:
		return 0, fmt.Errorf("in-flight record of %d rings: the device has %d", i.Queues, s.spec.Queues)
	case n == 0 || uint32(n) > s.spec.queueMax() || n&(n-1) != 0:
		return 0, fmt.Errorf("in-flight record for rings of %d descriptors: it must be a power of two up to %d", n, s.spec.queueMax())
	}
	return uint64(i.Queues) * virtio.RecordSize(n), nil
}

// getInflightFD makes a record for so many rings of so many descriptors: zeros,
// in a file of its own that is the front-end's from now on. Here nothing is
// kept of it before it comes back.
func (s *Session) getInflightFD(m *message) (payload, error) {
	i, err := decode[Inflight](m)
	if err != nil {
		return nil, err
	}
	if i.Size, err = s.checkInflight(i); err != nil {
		return nil, err
	}
	i.Offset = 0
	fd, err := newInflightFile(i.Size)
	if err != nil {
		return nil, err
	}
	return inflightAnswer{i, len(m.Payload), fd}, nil
}

// newInflightFile makes a file of size bytes that nobody can make smaller under
// us, or larger at our cost.
func newInflightFile(size uint64) (int, error) {
	fd, err := unix.MemfdCreate("vhost-inflight", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return -1, fmt.Errorf("file for the in-flight record: %w", err)
	}
	err = unix.Ftruncate(fd, int64(size))
	if err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL)
	}
	if err != nil {
		closeFD(fd)
		return -1, fmt.Errorf("file of %d bytes for the in-flight record: %w", size, err)
	}
	return fd, nil
}

// inflightAnswer is a description as long as the request's, which is what QEMU
// wants, and the file that goes with it.
type inflightAnswer struct {
	Inflight
	length int // bytes of the request
	fd     int
}

// AppendBinary implements encoding.BinaryAppender.
func (a inflightAnswer) AppendBinary(b []byte) ([]byte, error) {
	start := len(b)
	b, err := a.Inflight.AppendBinary(b)
	return b[:start+a.length], err
}

// file implements filed.
func (a inflightAnswer) file() int { return a.fd }

// setInflightFD takes a record, new or of a back-end that has died, before the
// rings start. What it says is looked at when they do.
func (s *Session) setInflightFD(m *message) (payload, error) {
	i, err := decode[Inflight](m)
	if err != nil {
		return nil, err
	}
	size, err := s.checkInflight(i)
	switch {
	case err != nil:
		return nil, err
	case s.running():
		return nil, errRunning
	case i.Size > maxInflight:
		return nil, fmt.Errorf("in-flight record of %d bytes: the largest is %d", i.Size, maxInflight)
	case i.Size < size:
		return nil, fmt.Errorf("in-flight record of %d bytes: %d rings of %d descriptors need %d", i.Size, i.Queues, i.QueueSize, size)
	case i.Offset > math.MaxInt64:
		return nil, fmt.Errorf("in-flight record at offset %d of its file: no file is that long", i.Offset)
	}
	fd, err := m.fds.Take(0)
	if err != nil {
		return nil, err
	}
	defer closeFD(fd) // the mapping keeps the memory
	next, err := s.mapInflight(fd, i)
	if err != nil {
		return nil, err
	}
	return nil, s.setInflight(next)
}

// mapInflight maps the whole record, as long as it is said to be: a file that
// is shorter is refused. It finds each ring's part.
func (s *Session) mapInflight(fd int, i Inflight) (*inflight, error) {
	m, err := memtable.MapFile(fd, int64(i.Offset), i.Size, memtable.MapOptions{Owner: s})
	if err != nil {
		return nil, fmt.Errorf("in-flight record: %w", err)
	}
	f := &inflight{mapping: m}
	err = memtable.Guard(func() error {
		size := virtio.RecordSize(i.QueueSize)
		for k := range uint64(i.Queues) {
			r, err := virtio.NewRecord(m.Bytes()[k*size:][:size], i.QueueSize)
			if err != nil {
				return fmt.Errorf("ring %d: %w", k, err)
			}
			f.rings = append(f.rings, r)
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(err, m.Close()) // nobody has seen it
	}
	return f, nil
}

// setInflight puts next, or with nil none, in the place of the record. When it
// returns nil nobody uses the old one, and it is unmapped.
func (s *Session) setInflight(next *inflight) error {
	var gone []*memtable.Mapping
	if s.inflight != nil {
		gone = append(gone, s.inflight.mapping)
	}
	s.inflight = next
	return s.retire(gone)
}

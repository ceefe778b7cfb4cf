package vhost

import (
	"errors"
	"fmt"
	"math"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio"
)

// maxLog bounds the dirty log: one bit a page of 4096 bytes, so this is for
// guest addresses up to 32 TiB.
const maxLog = 1 << 30

// errNoFile refuses a message whose file did not come.
var errNoFile = errors.New("it needs a file, and none came")

// setLogBase takes the dirty log, or a larger one in the place of the old. It
// is written to while LOG_ALL is agreed on.
func (s *Session) setLogBase(m *message) (payload, error) {
	l, err := decode[LogBase](m)
	switch {
	case err != nil:
		return nil, err
	case m.fds.Len() == 0:
		return nil, errNoFile
	case l.Size == 0 || l.Size > maxLog:
		return nil, fmt.Errorf("dirty log of %d bytes: it must be 1 to %d", l.Size, maxLog)
	case l.Offset > math.MaxInt64:
		return nil, fmt.Errorf("dirty log at offset %#x of its file: no file is that long", l.Offset)
	}
	dirty, err := s.mapLog(l, m.fds)
	if err != nil {
		return nil, err
	}
	var gone []*memtable.Mapping
	if s.dirty != nil {
		gone = append(gone, s.dirty.Mapping())
	}
	s.dirty = dirty
	return U64(0), s.retire(gone)
}

// mapLog maps the log's part of the file that came.
func (s *Session) mapLog(l LogBase, fds *fdSet) (*memtable.Log, error) {
	fd, err := fds.Take(0)
	if err != nil {
		return nil, err
	}
	defer closeFD(fd) // the mapping keeps the memory
	m, err := memtable.MapFile(fd, int64(l.Offset), l.Size, memtable.MapOptions{Owner: s})
	if err != nil {
		return nil, fmt.Errorf("dirty log: %w", err)
	}
	dirty, err := memtable.NewLog(m)
	if err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return dirty, nil
}

// errShortLog ends a session whose guest would be migrated wrong.
var errShortLog = errors.New("the dirty log is smaller than guest memory: the migration would lose writes")

// shortLog is told of a write that log has no place for. Nobody asks us whether
// the log is whole, so all that stops the migration is the end of the connection.
func (s *Session) shortLog(log *memtable.Log) virtio.Unlogged {
	size := log.Mapping().Size()
	return func(gpa memtable.GPA, n uint64) {
		s.Fail(fmt.Errorf("%w (%d bytes, and %d were written at guest address %#x)", errShortLog, size, n, uint64(gpa)))
	}
}

// setLogFD takes an eventfd that would tell of changes in the log. No
// front-end reads it, so it is closed with the message.
func (s *Session) setLogFD(*message) (payload, error) { return nil, nil }

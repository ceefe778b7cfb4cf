package memfd

import (
	"errors"
	"fmt"
	"io"
	"time"
)

// end says that nothing comes from the primary any more.
func (s *Secondary) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return
	}
	switch {
	case s.closed:
		s.err = ErrDetached
	case errors.Is(err, io.EOF):
		s.err = ErrPrimary
	default:
		s.err = fmt.Errorf("%w: %w", ErrPrimary, err)
	}
	close(s.done)
}

// Done is closed when the primary has ended, has given this process up, or
// Close was called.
func (s *Secondary) Done() <-chan struct{} { return s.done }

// Err tells why Done is closed: it wraps ErrPrimary or ErrDetached; nil: it is not.
func (s *Secondary) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func (s *Secondary) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// Close unmaps everything, none of which may be in use any more, and tells the
// primary, which takes back what was allocated. Watchers are not told. It waits
// for the primary, but no longer than its deadline. If something cannot be
// unmapped the primary is not told, and takes the memory back when this process
// ends.
func (s *Secondary) Close() error {
	s.work.Lock()
	if s.isClosed() {
		s.work.Unlock()
		return nil
	}
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	err := s.unmapAll()
	s.work.Unlock()
	if err == nil && s.detach() {
		late := time.AfterFunc(s.plot.deadline, s.c.close)
		defer late.Stop()
	} else {
		s.c.close()
	}
	s.reader.Wait()
	s.end(ErrDetached)
	s.c.close()
	return err
}

// detach tells the primary that nothing of it is mapped here any more.
func (s *Secondary) detach() (ok bool) {
	return s.c.write(time.Now().Add(max(s.plot.deadline, defaultDeadline)), sayDetach, 0, nil) == nil
}

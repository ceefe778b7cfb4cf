package vhost

import (
	"errors"
	"fmt"
)

// Inflight is "an inflight description": which part of a file is the record of
// what the back-end has taken and not given back, and for which rings.
type Inflight struct {
	Size, Offset uint64 // in the file, bytes; Size 0: there is no record
	Queues       uint16
	QueueSize    uint16 // descriptors
}

// AppendBinary implements encoding.BinaryAppender. The fields fill 20 bytes;
// QEMU's structure has 24, and back-ends were written against that.
func (i Inflight) AppendBinary(b []byte) ([]byte, error) {
	b = order.AppendUint64(b, i.Size)
	b = order.AppendUint64(b, i.Offset)
	b = order.AppendUint16(b, i.Queues)
	b = order.AppendUint16(b, i.QueueSize)
	return order.AppendUint32(b, 0), nil
}

// UnmarshalBinary implements encoding.BinaryUnmarshaler, for either size.
func (i *Inflight) UnmarshalBinary(p []byte) error {
	if len(p) != 20 && len(p) != 24 {
		return sizeError("in-flight description", len(p))
	}
	*i = Inflight{order.Uint64(p), order.Uint64(p[8:]), order.Uint16(p[16:]), order.Uint16(p[18:])}
	return nil
}

// inflightReply is the answer to GET_INFLIGHT_FD and the file that comes with it.
type inflightReply struct {
	Inflight
	fd int
}

func (r *inflightReply) takeFiles(fds *fdSet) (err error) {
	switch n := fds.Len(); {
	case n > 1:
		return fmt.Errorf("answered with %d files: it has one", n)
	case r.Size == 0:
		return nil // no record; a file that came all the same is closed
	case n == 0:
		return errors.New("answered with a record and no file")
	}
	r.fd, err = fds.Take(0)
	return err
}

// GetInflightFD asks the back-end for a record of what is in flight, for so
// many rings of so many descriptors. The file is the caller's; -1 with Size 0:
// the back-end keeps none.
func (c *Conn) GetInflightFD(queues, size uint16) (Inflight, int, error) {
	got := inflightReply{fd: -1}
	if err := c.ask(GetInflightFD, Inflight{Queues: queues, QueueSize: size}, &got); err != nil {
		return Inflight{}, -1, err
	}
	return got.Inflight, got.fd, nil
}

// SetInflightFD gives the record back to a back-end, before its rings start.
func (c *Conn) SetInflightFD(i Inflight, fd int) error { return c.tell(SetInflightFD, i, fd) }

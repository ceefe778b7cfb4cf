package vblk

import (
	"errors"
	"fmt"
)

// How a request fails. [Done] has these as they are; the methods of [Disk] wrap
// them in a [*RequestError].
var (
	// ErrIO is the device's IOERR.
	ErrIO = errors.New("the device reports an I/O error")
	// ErrUnsupported is the device's UNSUPP, or a request for which it did not
	// offer the feature. It is [errors.ErrUnsupported].
	ErrUnsupported = fmt.Errorf("the device does not do this: %w", errors.ErrUnsupported)
	// ErrStatus: the device gave the request back with a status that is none.
	ErrStatus = errors.New("the device wrote no status")
	// ErrShort: the device says that it wrote less than it was to.
	ErrShort = errors.New("the device wrote less than was asked for")
	// ErrLost: the device is gone, and nobody knows what became of the request.
	// Between that and the next device, Queue.Submit answers it too.
	ErrLost = errors.New("the device is gone")
	// ErrClosed: the disk was closed.
	ErrClosed = errors.New("the disk is closed")
)

// What a request is refused with before the device sees it.
var (
	// ErrReadOnly: the device offers RO.
	ErrReadOnly = errors.New("the disk is read-only")
	// ErrRange: the request goes past the end of the disk.
	ErrRange = errors.New("past the end of the disk")
	// ErrAlign: offset or length is no multiple of the block size.
	ErrAlign = errors.New("offset and length must be multiples of the block size")
	// ErrLimit: one request cannot carry so much; those of Disk are split.
	ErrLimit = errors.New("more buffers or bytes than one request can carry (see Queue.Limits)")
	// ErrForm: the data is not what this type of request has.
	ErrForm = errors.New("the data does not fit the type of the request")
	// ErrNotShared: the device cannot reach a buffer.
	ErrNotShared = errors.New("the buffer's memory is not shared with the device: take it from the source that the transport follows")
	// ErrNoQueue: all queues are the caller's (Options.Direct).
	ErrNoQueue = errors.New("the disk has no queue of its own: open it with fewer direct ones")
)

// RequestError says which request failed. Part of a request that was split may
// have been done.
type RequestError struct {
	Type   Type
	Sector uint64
	Bytes  uint64 // of data
	Err    error
}

func (e *RequestError) Error() string {
	return fmt.Sprintf("block request %v, %d bytes at sector %d: %v", e.Type, e.Bytes, e.Sector, e.Err)
}

func (e *RequestError) Unwrap() error { return e.Err }

// LentError says that a wait ended before its request did. The device may still
// use the buffers until Back is closed: then they are the caller's again.
type LentError struct {
	Back <-chan struct{}
	Err  error // of the context
}

func (e *LentError) Error() string {
	return fmt.Sprintf("the device did not answer in time, and still has the buffers: %v", e.Err)
}

func (e *LentError) Unwrap() error { return e.Err }

// QueueError says why a queue serves no more: what the device did to it. The
// others go on. It heals when the transport connects to another device that does
// not resume.
type QueueError struct {
	Queue int
	Err   error // a *virtio.UsedError, or what the transport told
}

func (e *QueueError) Error() string {
	return fmt.Sprintf("block queue %d serves no more: %v", e.Queue, e.Err)
}

func (e *QueueError) Unwrap() error { return e.Err }

// ConfigError says what in the configuration space makes a disk unusable.
type ConfigError struct {
	Field  string // the specification's name
	Value  uint64
	Reason string
}

func (e *ConfigError) Error() string {
	return fmt.Sprintf("the device's configuration space: %s %d %s", e.Field, e.Value, e.Reason)
}

package vhost

import (
	"errors"
	"fmt"
)

// ProtocolError is a message that does not say what the specification lets it
// say: a wrong size, version, number of files or reply. It costs the message
// or the connection, never more.
type ProtocolError struct {
	Request Request // 0: no header could be made out
	Err     error
}

func (e *ProtocolError) Error() string {
	if e.Request == 0 {
		return fmt.Sprintf("vhost-user: %v", e.Err)
	}
	return fmt.Sprintf("vhost-user %v: %v", e.Request, e.Err)
}

func (e *ProtocolError) Unwrap() error { return e.Err }

// RefusedError is the peer's "no": an acknowledgement that is not zero, or a
// reply that the specification defines to mean failure. The connection lives.
type RefusedError struct {
	Request Request
	Code    uint64
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("vhost-user %v: the back-end refused it (code %d): its log says why", e.Request, e.Code)
}

// NotEventfdError is a file that came where an eventfd belongs. Writing to it
// or waiting for it could do anything, so it is refused by kind.
type NotEventfdError struct {
	Got string // what the kernel calls the file: "socket:[1234]", "/dev/null"
}

func (e *NotEventfdError) Error() string {
	return fmt.Sprintf("file is no eventfd but %q: kick, call and error files are made by eventfd(2)", e.Got)
}

// errClosed is what a part answers that its owner has closed.
var errClosed = errors.New("vhost: closed")

// sizeError says that a payload has not the size of its layout.
func sizeError(what string, got int) error {
	return fmt.Errorf("%s of %d bytes: wrong size", what, got)
}

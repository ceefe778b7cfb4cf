package backend

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/vhostd/vhostd/vhost"
)

// Address is where a back-end is.
type Address struct {
	Socket string
	Listen bool          // it connects to us
	Wait   time.Duration // for it to be there; 0: as long as it takes
}

// Connect finds the back-end, or has it find us.
func (a Address) Connect(ctx context.Context, c vhost.FrontendConfig) (f *vhost.Frontend, err error) {
	if a.Wait > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, a.Wait)
		defer cancel()
	}
	if a.Listen {
		var l *net.UnixListener
		if l, err = vhost.Listen(a.Socket, vhost.ListenOptions{UID: -1, GID: -1}); err != nil {
			return nil, err
		}
		f, err = vhost.Accept(ctx, l, c)
	} else {
		f, err = vhost.Dial(ctx, a.Socket, c)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", a.Socket, err)
	}
	return f, nil
}

// Undo is what is to be done to give things back, newest first.
type Undo []func() error

// Later adds something.
func (u *Undo) Later(do func() error) { *u = append(*u, do) }

// Close does all of it, once.
func (u *Undo) Close() (err error) {
	for len(*u) > 0 {
		last := len(*u) - 1
		err = errors.Join(err, (*u)[last]())
		*u = (*u)[:last]
	}
	return err
}

package vhost

import (
	"context"
	"errors"
	"fmt"
)

// ErrNoConfig is what access to the configuration space answers when the
// back-end does not tell it (no CONFIG).
var ErrNoConfig = errors.New("the back-end does not tell its configuration space")

// ReadConfig implements [virtio.Transport]. The message names an offset, but
// common back-ends do not look at it, so everything up to the end of p is asked
// for where one message can carry it.
func (f *Frontend) ReadConfig(ctx context.Context, off int, p []byte) error {
	if err := checkWindow(off, len(p)); err != nil || len(p) == 0 {
		return err
	}
	// The answer goes through a slice of its own: a caller who left has p back.
	got := make(chan []byte, 1)
	err := f.askAny(ctx, func(l *peerLink) error {
		if !l.protocol.Has(ProtocolConfig) {
			return ErrNoConfig
		}
		b, err := l.conn.GetConfig(0, off+len(p))
		if err == nil {
			got <- b[off:]
		}
		return err
	}, nil)
	if err == nil {
		copy(p, <-got)
	}
	return err
}

// WriteConfig implements [virtio.Transport]: the bytes that change, no more.
func (f *Frontend) WriteConfig(ctx context.Context, off int, p []byte) error {
	if err := checkWindow(off, len(p)); err != nil || len(p) == 0 {
		return err
	}
	data := append([]byte(nil), p...)
	return f.ask(ctx, func(l *peerLink) error {
		if !l.protocol.Has(ProtocolConfig) {
			return ErrNoConfig
		}
		if err := l.conn.SetConfig(off, data, false); err != nil {
			return err
		}
		return l.barrier()
	}, nil)
}

// checkWindow holds a window of the configuration space against what a message
// carries.
func checkWindow(off, n int) error {
	if off < 0 || n > maxConfig || off > maxConfig-n {
		return fmt.Errorf("configuration space from %d, %d bytes: a message carries %d", off, n, maxConfig)
	}
	return nil
}

// SetMTU tells the back-end the largest frame payload in bytes, now and at
// every later connection. Before Accept it is kept for then.
func (f *Frontend) SetMTU(ctx context.Context, mtu uint16) error {
	return f.askAny(ctx, func(l *peerLink) error {
		if !l.protocol.Has(ProtocolMTU) {
			return fmt.Errorf("the back-end takes no MTU: %w", errors.ErrUnsupported)
		}
		if err := l.conn.NetSetMTU(mtu); err != nil {
			return err
		}
		f.mtu = mtu
		return nil
	}, nil)
}

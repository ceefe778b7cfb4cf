package vhost

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/virtio"
)

// inflightRecord is the back-end's record of what it has taken and not given
// back. It is kept for the next back-end, and never looked into.
type inflightRecord struct {
	Inflight
	fd int
}

// Start implements [virtio.Transport]: the record of what is in flight, all
// rings that are connected, and DRIVER_OK. When it fails no ring runs.
func (f *Frontend) Start(ctx context.Context) error {
	return f.ask(ctx, func(l *peerLink) error {
		if !f.agreed || f.started {
			return fmt.Errorf("the device is started once, after its features were accepted")
		}
		err := f.giveRecord(l)
		for _, r := range f.rings {
			if err == nil && r.line != nil {
				err = f.serve(l, r)
			}
		}
		if err == nil {
			err = f.status(l, statusReady)
		}
		if err != nil {
			f.halt(l)
			return err
		}
		f.started, f.resuming = true, false
		return nil
	}, nil)
}

// giveRecord makes the back-end keep a record, a new one unless rings resume.
func (f *Frontend) giveRecord(l *peerLink) error {
	if !l.protocol.Has(ProtocolInflightSHMFD) {
		return nil
	}
	if f.record == nil {
		var size uint16
		for _, r := range f.rings {
			size = max(size, r.placement.Size)
		}
		if size == 0 {
			return nil // no ring
		}
		i, fd, err := l.conn.GetInflightFD(uint16(len(f.rings)), size)
		if err != nil || fd < 0 {
			return err
		}
		unix.CloseOnExec(fd)
		i.Queues, i.QueueSize = uint16(len(f.rings)), size // as it was asked for
		f.record = &inflightRecord{i, fd}
	}
	err := l.conn.SetInflightFD(f.record.Inflight, f.record.fd)
	if err == nil {
		err = l.barrier()
	}
	if err != nil {
		f.forgetRecord() // the next start asks for another
	}
	return err
}

func (f *Frontend) forgetRecord() {
	if f.record != nil {
		closeFD(f.record.fd)
		f.record = nil
	}
}

// halt stops every ring that runs; the lines stay. It stops asking when the
// back-end does not answer.
func (f *Frontend) halt(l *peerLink) {
	for _, r := range f.rings {
		if r.running && l.conn.broken == nil {
			if p, err := f.stop(l, r); err == nil {
				r.placement.Position = p
			}
		}
		r.running = false
	}
}

// Reset implements [virtio.Transport]: all rings are stopped, then the status is
// 0, and the device is reset where there is a message for it. Memory stays
// shared. Features must be accepted anew.
func (f *Frontend) Reset(ctx context.Context) error {
	return f.ask(ctx, func(l *peerLink) error {
		for _, r := range f.rings {
			if r.running {
				if _, err := f.stop(l, r); err != nil {
					return err
				}
			}
		}
		for _, r := range f.rings {
			f.drop(r, ErrDisconnected)
			r.off = false
		}
		f.started, f.agreed, f.resuming = false, false, false
		f.forgetRecord()
		if err := f.resetDevice(l); err != nil {
			return err
		}
		return l.barrier()
	}, nil)
}

// resetDevice tells the device that it begins anew, when no ring runs any more.
// A back-end that refuses that has let go all the same: a driver that heard of an
// error would keep its memory, and try again for ever.
func (f *Frontend) resetDevice(l *peerLink) (err error) {
	if l.protocol.Has(ProtocolStatus) {
		err = l.conn.SetStatus(0)
	}
	if l.protocol.Has(ProtocolResetDevice) && (err == nil || isRefusal(err)) {
		err = errors.Join(err, l.conn.ResetDevice())
	}
	if err == nil || l.conn.broken != nil || !isRefusal(err) {
		return err
	}
	f.lines.say(slog.LevelWarn, "the back-end refused to reset the device: its rings are stopped, but it may keep its state", "peer", l.peer, "error", err)
	return nil
}

// isRefusal says whether the back-end heard a message, and said no.
func isRefusal(err error) bool {
	_, refused := errors.AsType[*RefusedError](err)
	return refused
}

// resumes says whether rings can go on where they were with the back-end behind
// l: it is given the record of its predecessor, or buffers are used in order,
// so that the used index says which ones were not (virtio 1.2, 2.7.8.1).
func (f *Frontend) resumes(l *peerLink) bool {
	if !f.agreed {
		return false
	}
	return f.record != nil && l.protocol.Has(ProtocolInflightSHMFD) || f.accepted.Has(virtio.FeatureInOrder)
}

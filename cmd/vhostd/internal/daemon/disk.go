package daemon

import (
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/vhostd/vhostd/cmd/vhostd/internal/config"
	"github.com/vhostd/vhostd/cmd/vhostd/internal/control"
	"github.com/vhostd/vhostd/vhost"
	"github.com/vhostd/vhostd/virtio"
	"github.com/vhostd/vhostd/virtio/vblk"
)

// disk is a file as a vhost.Device.
type disk struct {
	config.Blk
	*vblk.Device
	file    *vblk.File
	session atomic.Pointer[vhost.Session]
}

const (
	// diskTimeout is how long a ring may take to stop: fdatasync of a slow disk
	// takes longer than anything a switch does.
	diskTimeout = time.Minute
	// diskParallel is how many requests of a ring are done side by side past the
	// page cache. Through it one after another is quicker.
	diskParallel = 32
)

// openDisk opens a disk's file and its socket.
func openDisk(b config.Blk, log *slog.Logger) (*port, error) {
	file, err := vblk.OpenFile(b.File, vblk.FileOptions{ReadOnly: b.ReadOnly, Direct: b.Direct})
	if err != nil {
		return nil, err
	}
	info := file.Info()
	o := vblk.DeviceOptions{
		Storage: file, ReadOnly: b.ReadOnly, Discard: info.Discard, Serial: b.Serial, Queues: b.Queues, BlockSize: info.BlockSize,
	}
	if info.Direct {
		o.Parallel = diskParallel
	} else if b.Direct {
		log.Warn("the disk's filesystem has no O_DIRECT: data goes through the page cache", "file", b.File)
	}
	d := &disk{Blk: b, file: file}
	if d.Device, err = vblk.NewDevice(o); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	p := &port{disk: d, log: log, idle: time.Now(), Net: config.Net{
		Name: b.Name, Socket: b.Socket, Mode: b.Mode, Owner: b.Owner, Perm: b.Perm, Queues: b.Queues, Origin: b.Origin,
	}}
	// A domain of its own: who waits for the switch's workers must not wait for a
	// disk.
	if err := p.open(d, vhost.Events(nil), diskTimeout); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return p, nil
}

func (d *disk) close() { d.file.Close() }

// Name implements vhost.Namer.
func (d *disk) Name() string { return d.Blk.Name }

// Spec implements vhost.Device.
func (d *disk) Spec() vhost.Spec {
	return vhost.Spec{ID: virtio.Block, Features: d.Features(), Queues: d.Device.Queues(), Inflight: true}
}

// Open implements vhost.Device.
func (d *disk) Open(s *vhost.Session) (vhost.Handler, error) {
	d.session.Store(s)
	return &stay{d.Attach(), d}, nil
}

// stay is one front-end's stay at a disk.
type stay struct {
	*vblk.Attachment
	disk *disk
}

// Close implements vhost.Handler.
func (s *stay) Close() error {
	s.disk.session.Store(nil)
	return s.Attachment.Close()
}

// resize looks at the file's size again and tells the guest.
func (d *disk) resize() error {
	changed, err := d.Refresh()
	if err != nil || !changed {
		return err
	}
	if s := d.session.Load(); s != nil {
		if err := s.NotifyConfig(); err != nil {
			return fmt.Errorf("disk %q has its new size, but its guest cannot be told: %w", d.Blk.Name, err)
		}
	}
	return nil
}

// describe tells what it is and what was done with it.
func (d *disk) describe() control.Disk {
	s, info := d.Stats(), d.file.Info()
	c := control.Disk{
		Port: d.Blk.Name, File: d.File, Size: d.Capacity() * vblk.SectorSize, ReadOnly: d.ReadOnly, Direct: info.Direct,
		Queues: d.Device.Queues(), Reads: s.Reads, ReadBytes: s.ReadBytes, Writes: s.Writes, WriteBytes: s.WriteBytes,
		Flushes: s.Flushes, Discards: s.Discards, Zeroes: s.Zeroes,
		Failed: s.Failed, Refused: s.Refused + s.Mute, Unsupported: s.Unknown,
	}
	if s.LastError != nil {
		c.LastError = &control.Failure{At: s.LastAt, Error: s.LastError.Error()}
	}
	return c
}

// Disks implements [control.Source].
func (d *Daemon) Disks(name string) []control.Disk {
	return each(d, name, func(p *port) (control.Disk, bool) {
		if p.disk == nil {
			return control.Disk{}, false
		}
		return p.disk.describe(), true
	})
}

// Resize implements [control.Source].
func (d *Daemon) Resize(name string) (control.Disk, error) {
	for _, p := range d.ports {
		if p.disk != nil && p.Name == name {
			err := p.disk.resize()
			return p.disk.describe(), err
		}
	}
	return control.Disk{}, fmt.Errorf("no disk is named %q: vhostd show disks lists them", name)
}

// Package vhost (surface stub: its owner replaces this file by the real ones).
package vhost

import (
	"context"
	"log/slog"
	"net"
	"time"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio"
)

// Device is a kind of device; Open makes the state behind one connection.
type Device interface {
	Spec() Spec
	Open(*Session) (Handler, error) // at connect, before features and memory
}

type Spec struct {
	ID       virtio.DeviceID
	Features virtio.Features      // device-type bits; ring, transport and vhost bits are the library's
	Without  virtio.Features      // library bits that shall not be offered (features=-x)
	Queues   int                  // rings; for Net two a pair
	QueueMax uint16               // 0: 32768
	Shared   func(queue int) bool // rings that other workers fill: never served, gated; nil: none
}

type Handler interface {
	Serve(*virtio.Queue) error // in a section and begun; drain the queue; an error breaks this ring only
	Close() error              // all workers are out
}

// Optional abilities of a Handler, found by assertion.
type (
	Negotiator  interface{ Negotiated(virtio.Features) }
	RingWatcher interface {
		RingChanged(queue int, v *virtio.View)
	} // v nil: stopped; before workers see a start, after they left a stop
	NetHandler interface {
		SetMTU(mtu uint16) error
		Announce(mac [6]byte) // SEND_RARP
	}
	// Dropper serves rings that are started and not enabled (net Tx: take and drop); others are paused.
	Dropper  interface{ Drop(*virtio.Queue) error }
	Resetter interface{ Reset() }
)

// Configurer is an optional ability of a Device: it has a config space (protocol bit 9 is offered).
type Configurer interface {
	ReadConfig(p []byte, off int64) (int, error)
	WriteConfig(p []byte, off int64) (int, error)
}

type Hooks struct {
	Connected    func(*Session)
	Disconnected func(*Session, error)
	Failed       func(error) // dial or accept trouble, rate-limited
}

type Server struct {
	Device  Device
	Runner  Runner // nil: Events with a domain per session
	Log     *slog.Logger
	Timeout time.Duration // for half-sent messages, waits, replies; 0: 10 s
	Hooks   Hooks
}

func (s *Server) Serve(ctx context.Context, l *net.UnixListener) error  { panic("stub") }
func (s *Server) ServeConn(ctx context.Context, c *net.UnixConn) error  { panic("stub") }
func (s *Server) ListenAndServe(ctx context.Context, path string) error { panic("stub") }
func (s *Server) DialAndServe(ctx context.Context, path string) error   { panic("stub") } // retries for ever with back-off

type Session struct{ _ int }

func (s *Session) Context() context.Context  { panic("stub") }
func (s *Session) Features() virtio.Features { panic("stub") }
func (s *Session) Queue(i int) *virtio.Queue { panic("stub") }
func (s *Session) Fail(err error)            { panic("stub") } // ends the connection; any goroutine, never blocks
func (s *Session) NotifyConfig() error       { panic("stub") }
func (s *Session) Info() Info                { panic("stub") }

// Info is a snapshot for people and monitors.
type Info struct {
	ID                uint64
	Peer              string // "pid 123 uid 0", from SO_PEERCRED
	Since             time.Time
	Offered, Features virtio.Features
	Protocol          ProtocolFeatures
	Status            uint8
	MTU               uint16
	Logging           bool
	Memory            MemoryInfo
	Rings             []RingInfo
	Messages          []MessageInfo // the last ones
}
type MemoryInfo struct {
	Regions []RegionInfo
	ByGPA   memtable.IndexInfo
	ByUVA   memtable.IndexInfo
	Slots   int
	Changed time.Time
}
type RegionInfo struct {
	GPA      memtable.GPA
	UVA      memtable.UVA
	Size     uint64
	File     memtable.FileID
	Offset   int64
	PageSize uint64
	Seals    string // "shrink,grow,seal", "none", "unsupported"
	Resident uint64
	At       string // where mapped
	Since    time.Time
}
type RingInfo struct {
	Index                    int
	Size                     uint16
	Started, Enabled, Polled bool
	Broken                   string // reason
	Indices                  virtio.Indices
	KickFD, CallFD, ErrFD    int // -1: none
	Desc, Avail, Used        memtable.UVA
	Stats                    virtio.Stats
}
type MessageInfo struct {
	At      time.Time
	Request string
	Detail  string
	Result  string
}

package vhost

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio"
)

// FrontendConfig says what a Frontend shall be. Only Device and Memory are
// needed.
type FrontendConfig struct {
	Device virtio.DeviceID
	Memory memtable.Source // what is shared with the back-end, as it comes and goes

	// Features are what the driver may be offered of what the back-end offers;
	// 0: all of it that can work here. Protocol are the protocol features that
	// may be agreed on; 0: all that are implemented.
	Features virtio.Features
	Protocol ProtocolFeatures

	Queues   int    // rings there are if the back-end cannot say (no MQ); 0: 2 for a network device, otherwise 1
	QueueMax uint16 // the largest ring that a driver may make, which no message tells; 0: 32768

	// Timeout bounds every operation with the back-end, all of its messages
	// together. Who does not answer in time loses the connection. 0: 10 s.
	Timeout time.Duration
	// Pause is how long a virtio.Pauser may take; then the change of memory fails.
	// 0: 1 s.
	Pause time.Duration
	// Backoff is the longest pause between attempts to connect. 0: 1 s.
	Backoff time.Duration
	// Abandon is how long a back-end that does not answer, does not close its
	// end and does not exit keeps a new one out. It may write to memory when it
	// wakes up, so 0 is: for ever.
	Abandon time.Duration
	// AwaitExit has [virtio.Lost] wait for the end of the back-end's process,
	// where that can be known: for one that serves this device only.
	AwaitExit bool

	Log *slog.Logger // nil: silent; no peer can flood it
}

// pauseDefault is how long a driver may take to get its lent buffers back.
const pauseDefault = time.Second

func (c FrontendConfig) withDefaults() (FrontendConfig, error) {
	if c.Memory == nil {
		return c, errors.New("vhost: FrontendConfig.Memory is nil: a front-end needs memory to share, and the rings must lie in it")
	}
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	def(&c.Timeout, defaultTimeout)
	def(&c.Pause, pauseDefault)
	def(&c.Backoff, backoffMax)
	if c.QueueMax == 0 || c.QueueMax > virtio.MaxSize {
		c.QueueMax = virtio.MaxSize
	}
	if c.Features == 0 {
		c.Features = ^virtio.Features(0)
	}
	if c.Protocol == 0 {
		c.Protocol = ^ProtocolFeatures(0)
	}
	if c.Queues <= 0 {
		c.Queues = 1
		if c.Device == virtio.Net {
			c.Queues = 2
		}
	}
	c.Queues = min(c.Queues, maxRings)
	return c, nil
}

// ErrLost is what a front-end answers between [virtio.Lost] and [virtio.Back],
// and from the moment on that its back-end is known to be gone.
var ErrLost = errors.New("the back-end is gone")

// Frontend is a [virtio.Transport] to a vhost-user back-end. It follows a
// source of memory and shares what that has, no more; and it outlives its
// connections: when one ends, it tells [virtio.Lost], connects again, shares
// the memory there is then, and tells [virtio.Back].
//
// # What Lost means
//
// Lost is told when the back-end has closed its end of the connection, which
// it does when it has let go of rings and memory, or when it dies. A back-end
// that does not answer is told to go by closing our direction, and waited for;
// no other one is connected to the rings meanwhile. A process that closes its
// end and writes on is beyond what any message can tell: what it may reach are
// the buffers of this driver, which hold nothing else, but what the next
// back-end puts there can be spoilt. FrontendConfig.AwaitExit closes even that
// gap, where the back-end is a process of its own.
type Frontend struct {
	cfg   FrontendConfig
	reach func(context.Context) (*net.UnixConn, error)
	lines *quiet
	news  *news

	ctx      context.Context // ends with Close
	cancel   context.CancelFunc
	unfollow func(context.Context) error
	done     chan struct{} // the life of connections has ended
	closing  sync.Once
	closed   error

	// What the driver was told at first, and what later back-ends are held to.
	offered virtio.Features
	queues  int

	// turn is held over every operation: messages go one at a time. It is a
	// channel, so that waiting for it can end.
	turn     chan struct{}
	link     *peerLink // nil: lost
	old      *peerLink // lost, and not known to have let go; nil: none
	share    share
	rings    []*frontRing
	accepted virtio.Features
	agreed   bool // Accept was called
	started  bool
	resuming bool // rings go on where they were; until Start

	record *inflightRecord
	mtu    uint16 // 0: not told

	pauser atomic.Pointer[virtio.Pauser]
	shown  shown
}

// Dial connects to the back-end that listens on path, and from then on
// connects again whenever the connection ends, until Close. The first
// connection is waited for as long as ctx lasts; without it there would be no
// features to tell of.
func Dial(ctx context.Context, path string, cfg FrontendConfig) (*Frontend, error) {
	return newFrontend(ctx, cfg, func(ctx context.Context) (*net.UnixConn, error) {
		var d net.Dialer
		c, err := d.DialContext(ctx, "unix", path)
		if err != nil {
			return nil, fmt.Errorf("vhost-user back-end: %w", err)
		}
		return c.(*net.UnixConn), nil
	}, func() {})
}

// Accept is Dial for the back-end that connects to us: it waits for one on l,
// and again whenever the connection ends. l is the Frontend's from here on,
// error or not.
func Accept(ctx context.Context, l *net.UnixListener, cfg FrontendConfig) (*Frontend, error) {
	f, err := newFrontend(ctx, cfg, func(ctx context.Context) (*net.UnixConn, error) {
		return acceptUntil(ctx, l)
	}, func() { _ = l.Close() })
	if err != nil {
		_ = l.Close()
	}
	return f, err
}

// newFrontend makes the first connection, and begins to follow the memory.
// release is called at the end.
func newFrontend(ctx context.Context, cfg FrontendConfig, reach func(context.Context) (*net.UnixConn, error), release func()) (*Frontend, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	f := &Frontend{
		cfg: cfg, reach: reach, lines: newQuiet(cfg.Log), news: newNews(),
		done: make(chan struct{}), turn: make(chan struct{}, 1),
	}
	f.shown.since = time.Now()
	f.ctx, f.cancel = context.WithCancel(context.WithoutCancel(ctx))
	l, err := f.first(ctx)
	if err != nil {
		f.cancel()
		f.news.close()
		return nil, err
	}
	if f.unfollow, err = cfg.Memory.Follow(ctx, mirror{f}); err != nil {
		f.cancel()
		l.fail(errClosed)
		f.news.close()
		_ = f.take(context.Background()) // what is under way may use the link
		l.close()
		f.share.close()
		return nil, fmt.Errorf("the memory cannot be shared: %w", err)
	}
	go f.live(l, release)
	return f, nil
}

// Events implements [virtio.Transport].
func (f *Frontend) Events() <-chan virtio.TransportEvent { return f.news.out }

// Close ends the connection and takes all memory back. The rings are stopped
// first, if the back-end answers; it is given the Timeout to let go.
//
// An error says that the source could not take its memory back.
func (f *Frontend) Close() error {
	f.closing.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), f.cfg.Timeout)
		defer cancel()
		_ = f.Reset(ctx) // a courtesy: the end of the connection says as much
		f.cancel()
		<-f.done
		// There is no connection any more, so nothing that follows waits for a
		// back-end; but it may have used up all of ctx.
		ctx, cancel = context.WithTimeout(context.Background(), f.cfg.Timeout)
		defer cancel()
		f.closed = f.unfollow(ctx)
		_ = f.take(context.Background()) // what outlived its caller ends by itself
		defer f.give()
		f.forgetRecord()
		f.share.close()
	})
	return f.closed
}

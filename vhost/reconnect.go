package vhost

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"time"

	"github.com/vhostd/vhostd/virtio"
)

// first makes the first connection, which says what the device is.
func (f *Frontend) first(ctx context.Context) (*peerLink, error) {
	c, err := f.reach(ctx)
	if err != nil {
		return nil, err
	}
	// Who gives up waiting ends the exchange that is under way.
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	l, err := f.newLink(c)
	if !stop() {
		err = errors.Join(context.Cause(ctx), err)
		if l != nil {
			l.fail(err)
			l.close()
		}
	}
	if err != nil {
		return nil, err
	}
	f.offered, f.queues = f.cfg.forDriver(l.offered), l.queues
	if f.queues == 0 {
		f.queues = f.cfg.Queues
	}
	for i := range f.queues {
		f.rings = append(f.rings, &frontRing{index: i})
	}
	f.link, f.share.room = l, l.room()
	f.shown.connected(l)
	return l, nil
}

// live goes from one connection to the next until Close.
func (f *Frontend) live(l *peerLink, release func()) {
	defer close(f.done)
	defer f.news.close()
	defer release()
	stop := context.AfterFunc(f.ctx, release)
	defer stop()
	for l != nil {
		select {
		case <-l.ended:
		case <-f.ctx.Done():
			l.fail(errClosed)
		}
		f.lose(l)
		err := f.settled(l)
		f.forget(l)
		if f.ctx.Err() != nil {
			return
		}
		f.news.tell(virtio.TransportEvent{Kind: virtio.Lost, Err: err})
		resumes := false
		if l, resumes = f.again(); l != nil {
			f.news.tell(virtio.TransportEvent{Kind: virtio.Back, Resumes: resumes})
		}
	}
}

// lose takes the link out of use: no operation finds it any more, and no ring
// is served.
func (f *Frontend) lose(l *peerLink) {
	_ = f.take(context.Background()) // what is under way ends with the connection
	defer f.give()
	f.link, f.old = nil, l
	f.started, f.resuming = false, false
	for _, r := range f.rings {
		f.drop(r, lostBy(l.cause))
	}
	f.share.lost()
	f.shown.disconnected(l.cause)
	f.lines.say(slog.LevelWarn, "the back-end is lost", "peer", l.peer, "error", l.cause)
}

// lingers says whether a back-end that was lost may still reach memory.
func (f *Frontend) lingers() bool { return f.old != nil && f.old.shared }

// settled returns when the other end has let go, and says why the connection
// ended. At the end of the front-end it does not wait for long.
func (f *Frontend) settled(l *peerLink) error {
	var limit <-chan time.Time
	if f.cfg.Abandon > 0 {
		limit = time.After(f.cfg.Abandon)
	}
	gone := l.left
	if f.cfg.AwaitExit && l.pidfd >= 0 {
		gone = l.exited
	}
	closing := f.ctx.Done()
	for {
		select {
		case <-gone:
			return l.cause
		case <-limit:
			f.lines.say(slog.LevelError, "a back-end that does not let go was given up: it may still write to memory", "peer", l.peer)
			return fmt.Errorf("%w (it was given up without having let go)", l.cause)
		case <-closing:
			closing, limit = nil, time.After(f.cfg.Timeout)
		}
	}
}

// forget gives the old link back.
func (f *Frontend) forget(l *peerLink) {
	l.close()
	_ = f.take(context.Background())
	defer f.give()
	f.old = nil
}

// again connects until there is a back-end that can take the place of the old
// one; nil: the front-end is closed. The pause between attempts doubles.
func (f *Frontend) again() (l *peerLink, resumes bool) {
	for pause := backoffMin; f.ctx.Err() == nil; pause = min(2*pause, f.cfg.Backoff) {
		// Half of it by chance: what ended together shall not come together.
		sleep(f.ctx, pause/2+rand.N(pause/2+1))
		l, resumes, err := f.attempt()
		if err == nil {
			return l, resumes
		}
		if f.ctx.Err() == nil {
			f.shown.failed(err)
			f.lines.say(slog.LevelWarn, "no connection to the back-end", "error", err)
		}
	}
	return nil, false
}

// attempt makes one connection and brings it to where the last one was, but for
// rings. One that fails when it was told of memory already is waited for, as
// every other.
func (f *Frontend) attempt() (_ *peerLink, resumes bool, err error) {
	c, err := f.reach(f.ctx)
	if err != nil {
		return nil, false, err
	}
	stop := context.AfterFunc(f.ctx, func() { _ = c.CloseWrite() })
	defer stop()
	l, err := f.newLink(c)
	if err != nil {
		return nil, false, err
	}
	if resumes, err = f.restore(l); err != nil {
		l.fail(err)
		if l.shared {
			_ = f.settled(l)
		}
		f.forget(l)
		return nil, false, err
	}
	return l, resumes, nil
}

// restore brings l to where the last connection was and takes it into use.
func (f *Frontend) restore(l *peerLink) (resumes bool, err error) {
	_ = f.take(context.Background())
	defer f.give()
	err = f.bounded(l, func(l *peerLink) error {
		if err := f.holds(l); err != nil || !f.agreed {
			return err
		}
		return f.settle(l, f.accepted)
	})
	if err != nil {
		f.old = l
		f.share.lost()
		return false, err
	}
	if resumes = f.resumes(l); !resumes {
		f.forgetRecord()
	}
	f.link, f.resuming = l, resumes
	f.shown.connected(l)
	f.lines.say(slog.LevelInfo, "the back-end is back", "peer", l.peer)
	return resumes, nil
}

// acceptUntil accepts one connection, until ctx ends.
func acceptUntil(ctx context.Context, l *net.UnixListener) (*net.UnixConn, error) {
	if err := l.SetDeadline(time.Time{}); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = l.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	c, err := l.AcceptUnix()
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("waiting for the back-end: %w", err)
	}
	return c, nil
}

package vhost

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/virtio"
)

// maxSlotsUsed bounds what a back-end can have us believe about memory slots.
const maxSlotsUsed = 4096

// peerLink is one connection to a back-end, and what was agreed on with it. Its
// messages go in the Frontend's turn.
type peerLink struct {
	conn   *Conn
	sock   *net.UnixConn
	watch  *watch
	bells  *bells
	peer   string
	pidfd  int // -1: not known
	since  time.Time
	broken func(ring int) // a ring's error file was signalled

	offered  virtio.Features // all of them
	protocol ProtocolFeatures
	queues   int // rings; 0: it did not say
	slots    int // memory slots; 0: it has none, and takes whole tables

	shared bool // it was told of memory

	channel *net.UnixConn // our end of the back-end's channel; nil: none
	serving sync.WaitGroup

	once   sync.Once
	cause  error
	ended  chan struct{} // the connection is over, cause says why
	left   chan struct{} // the other end has closed
	exited chan struct{} // the other end's process has ended
}

// newLink takes c, says hello, and finds out what the back-end can do.
func (f *Frontend) newLink(c *net.UnixConn) (*peerLink, error) {
	l := &peerLink{
		conn: NewConn(c, f.cfg.Timeout), sock: c, peer: peerOf(c), pidfd: -1, since: time.Now(),
		ended: make(chan struct{}), left: make(chan struct{}), exited: make(chan struct{}),
	}
	l.conn.note = f.shown.message
	l.bells = &bells{hung: l.fail}
	l.broken = func(ring int) { f.news.tell(virtio.TransportEvent{Kind: virtio.QueueBroken, Queue: ring}) }
	err := l.observe()
	if err == nil {
		l.conn.until = time.Now().Add(f.cfg.Timeout)
		err = f.hello(l)
	}
	if err != nil {
		l.fail(err)
		l.close()
		return nil, err
	}
	return l, nil
}

// observe watches for the end of the connection.
func (l *peerLink) observe() (err error) {
	if l.watch, err = newWatch(l.happened); err != nil {
		return err
	}
	raw, err := l.sock.SyscallConn()
	if err != nil {
		return err
	}
	e := raw.Control(func(fd uintptr) {
		err = l.watch.add(int(fd), unix.EPOLLRDHUP, watchHangup)
		if cred, e := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); e == nil && cred.Pid > 0 {
			if pidfd, e := unix.PidfdOpen(int(cred.Pid), 0); e == nil {
				l.pidfd = pidfd
			}
		}
	})
	if l.pidfd >= 0 && l.watch.add(l.pidfd, unix.EPOLLIN, watchExit) != nil {
		closeFD(l.pidfd)
		l.pidfd = -1
	}
	return errors.Join(err, e)
}

// errHungUp is the usual end of a connection.
var errHungUp = errors.New("the back-end closed the connection")

// happened is told by the watch.
func (l *peerLink) happened(what int) {
	switch {
	case what == watchHangup:
		l.fail(errHungUp)
		closeOnce(l.left)
	case what == watchExit:
		closeOnce(l.exited)
	default:
		l.broken(what - watchErr)
	}
}

// closeOnce closes a channel that one goroutine closes, maybe again.
func closeOnce(c chan struct{}) {
	select {
	case <-c:
	default:
		close(c)
	}
}

// fail ends the connection because of err. It never blocks, and may be called
// from anywhere. Only our direction is closed: the other end sees that, and
// closes its own when it has let go.
func (l *peerLink) fail(err error) {
	l.once.Do(func() {
		l.cause = err
		_ = l.sock.CloseWrite()
		close(l.ended)
	})
}

// close gives back what the link holds, after fail.
func (l *peerLink) close() {
	if l.watch != nil {
		l.watch.close()
	}
	_ = l.sock.Close()
	closeFD(l.pidfd)
	if l.channel != nil {
		_ = l.channel.Close()
	}
	l.serving.Wait()
}

// hello negotiates what does not depend on the driver.
func (f *Frontend) hello(l *peerLink) (err error) {
	if l.offered, err = l.conn.GetFeatures(); err != nil {
		return err
	}
	if l.offered.Has(virtio.FeatureProtocol) {
		if err := f.helloProtocol(l); err != nil {
			return err
		}
	}
	return l.conn.SetOwner()
}

func (f *Frontend) helloProtocol(l *peerLink) error {
	p, err := l.conn.GetProtocolFeatures()
	if err != nil {
		return err
	}
	l.protocol = f.cfg.forProtocol(p)
	if err := l.conn.SetProtocolFeatures(l.protocol); err != nil {
		return err
	}
	if l.protocol.Has(ProtocolMQ) {
		n, err := l.conn.GetQueueNum()
		if err != nil {
			return err
		}
		if n == 0 {
			return &ProtocolError{GetQueueNum, errors.New("the device has no rings")}
		}
		l.queues = int(min(n, maxRings))
		if f.cfg.Device == virtio.Net { // it counts pairs
			l.queues = min(2*l.queues, maxRings)
		}
	}
	if l.protocol.Has(ProtocolMemSlots) {
		n, err := l.conn.GetMaxMemSlots()
		if err != nil {
			return err
		}
		l.slots = int(min(n, maxSlotsUsed))
	}
	if l.protocol.Has(ProtocolBackendReq) {
		if l.channel, err = l.conn.SetBackendReqFD(); err != nil {
			return err
		}
		l.serving.Go(func() { serveChannel(l.channel, f.cfg.Timeout, f.configChanged) })
	}
	return nil
}

// barrier returns when the back-end has done all that was sent before, which it
// says by itself where acknowledgements were agreed on.
func (l *peerLink) barrier() error {
	if l.protocol.Has(ProtocolReplyAck) {
		return nil
	}
	_, err := l.conn.GetFeatures()
	return err
}

// holds tells what a later back-end lacks of what the driver was told.
func (f *Frontend) holds(l *peerLink) error {
	need := f.offered
	if f.agreed {
		need = f.accepted
	}
	if lacks := need &^ l.offered; lacks != 0 {
		return fmt.Errorf("the back-end came back without features that are in use: %v", lacks.Names(f.cfg.Device))
	}
	if l.queues != 0 && l.queues < f.queues {
		return fmt.Errorf("the back-end came back with %d rings: it had %d", l.queues, f.queues)
	}
	return nil
}

package vhost

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Without a kick file the ring is looked at by the clock, the less often the
// longer nothing was found (vhost-user, SET_VRING_KICK bit 8).
const (
	pollMin = 50 * time.Microsecond
	pollMax = time.Millisecond
)

// Which of the two files an epoll event is about.
const (
	wakeEvent = iota
	kickEvent
)

// waiter parks one goroutine until a ring's kick, or Wake. Parked it costs no
// thread and no time.
//
// The kick file is watched by an epoll file, edge-triggered, and never read:
// its reader could be blocked by a peer that clears O_NONBLOCK and takes the
// counter first. The epoll file is ours alone; it does not block, so it can be
// parked on in the runtime's poller.
type waiter struct {
	epoll  *os.File
	raw    syscall.RawConn
	ready  func(uintptr) bool // collect, bound once
	events [2]unix.EpollEvent
	kicks  atomic.Uint64

	// Of the goroutine that waits.
	pause time.Duration // the last pause of the clock
	timed bool          // the epoll file has a deadline

	poll atomic.Bool

	mu     sync.Mutex // guards what follows, and the epoll set
	epfd   int
	wake   int
	kick   int
	closed bool
}

func newWaiter() (*waiter, error) {
	wake, err := newEventfd()
	if err != nil {
		return nil, err
	}
	w := &waiter{wake: wake, kick: -1, epfd: -1}
	if err := w.open(); err != nil {
		_ = w.Close()
		return nil, err
	}
	return w, nil
}

func (w *waiter) open() (err error) {
	if w.epfd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	if err = unix.SetNonblock(w.epfd, true); err != nil {
		_ = unix.Close(w.epfd)
		return fmt.Errorf("epoll: %w", err)
	}
	w.epoll = os.NewFile(uintptr(w.epfd), "kick") // owns the descriptor from here on
	if w.raw, err = w.epoll.SyscallConn(); err != nil {
		return err
	}
	w.ready = w.collect
	return w.watch(w.wake, wakeEvent)
}

// watch adds fd to the epoll set. A file that is ready already reports at once.
func (w *waiter) watch(fd int, data int32) error {
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: data}
	if err := unix.EpollCtl(w.epfd, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	return nil
}

// collect takes all events there are; false: there was none, park.
func (w *waiter) collect(fd uintptr) bool {
	for {
		n, err := unix.EpollWait(int(fd), w.events[:], 0)
		if err == unix.EINTR {
			continue
		}
		for i := range max(n, 0) {
			if w.events[i].Fd == kickEvent {
				w.kicks.Add(1)
			}
		}
		return n > 0 || err != nil
	}
}

// Wait parks until there may be something to do; false: the waiter is closed.
// worked tells whether the last look at the ring found anything.
func (w *waiter) Wait(worked bool) bool {
	if err := w.setPause(worked); err != nil {
		return false
	}
	err := w.raw.Read(w.ready)
	return err == nil || errors.Is(err, os.ErrDeadlineExceeded)
}

// setPause sets the deadline of the wait, if the ring is polled by the clock.
func (w *waiter) setPause(worked bool) error {
	switch {
	case w.poll.Load():
		w.pause = min(max(2*w.pause, pollMin), pollMax)
		if worked {
			w.pause = pollMin
		}
		w.timed = true
		return w.epoll.SetReadDeadline(time.Now().Add(w.pause))
	case w.timed:
		w.timed = false
		return w.epoll.SetReadDeadline(time.Time{})
	}
	return nil
}

// Set changes the kick file to fd, which is the waiter's from now on, error or
// not; -1: none, and then poll chooses the clock. The old file is closed when
// it returns nil, and stays what it was with an error. The goroutine is woken: a
// kick that went to the old file, or to the new one before it was watched, is
// not lost.
func (w *waiter) Set(fd int, poll bool) error {
	if fd >= 0 {
		if err := checkEventfd(fd); err != nil {
			closeFD(fd)
			return err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	var err error
	switch {
	case w.closed:
		err = errClosed
	case fd >= 0:
		err = w.watch(fd, kickEvent)
	}
	if err != nil {
		closeFD(fd)
		return err
	}
	w.drop()
	w.kick = fd
	w.poll.Store(fd < 0 && poll)
	return addEventfd(w.wake)
}

// drop forgets the kick file. It must leave the epoll set by name: the peer
// holds the same open file, so closing our number would not take it out.
func (w *waiter) drop() {
	if w.kick >= 0 {
		_ = unix.EpollCtl(w.epfd, unix.EPOLL_CTL_DEL, w.kick, nil)
		_ = unix.Close(w.kick)
		w.kick = -1
	}
}

// Wake ends the wait that is under way, or the next. Any goroutine may.
func (w *waiter) Wake() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.closed {
		_ = addEventfd(w.wake) // ours, and far from full
	}
}

// Close ends Wait for good and closes the files.
func (w *waiter) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil
	}
	w.closed = true
	w.drop()
	_ = unix.Close(w.wake)
	if w.epoll == nil {
		return nil
	}
	return w.epoll.Close()
}

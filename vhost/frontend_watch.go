package vhost

import (
	"fmt"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// What a watch tells of; error files of rings are numbered from watchErr on.
const (
	watchHangup = iota // the other end has closed the connection
	watchExit          // the other end's process has ended
	watchErr
)

// watch tells what happens to a connection while nobody reads from it: its end,
// the end of the process behind it, and broken rings. One goroutine is parked on
// an epoll file of ours, which no peer can block. Nothing that it watches is
// read: the events are edges.
type watch struct {
	epoll *os.File
	raw   syscall.RawConn
	done  chan struct{}

	mu     sync.Mutex // guards the epoll set
	epfd   int
	closed bool
}

// newWatch calls tell for each event until close.
func newWatch(tell func(what int)) (*watch, error) {
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	if err := unix.SetNonblock(epfd, true); err != nil {
		closeFD(epfd)
		return nil, fmt.Errorf("epoll: %w", err)
	}
	w := &watch{epoll: os.NewFile(uintptr(epfd), "vhost-user watch"), epfd: epfd, done: make(chan struct{})}
	if w.raw, err = w.epoll.SyscallConn(); err != nil {
		w.epoll.Close()
		return nil, err
	}
	go w.run(tell)
	return w, nil
}

func (w *watch) run(tell func(what int)) {
	defer close(w.done)
	var events [8]unix.EpollEvent
	for {
		n := 0
		err := w.raw.Read(func(fd uintptr) bool {
			var err error
			n, err = unix.EpollWait(int(fd), events[:], 0)
			return n != 0 && err != unix.EINTR
		})
		if err != nil {
			return // closed
		}
		for _, e := range events[:max(n, 0)] {
			tell(int(e.Fd))
		}
	}
}

// add watches fd, which the caller keeps open until it has removed it.
func (w *watch) add(fd int, events uint32, what int) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return errClosed
	}
	ev := unix.EpollEvent{Events: events | unix.EPOLLET, Fd: int32(what)}
	if err := unix.EpollCtl(w.epfd, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	return nil
}

// remove stops watching fd. It must leave the set by name: the back-end may hold
// the same open file, so closing our number would not take it out.
func (w *watch) remove(fd int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.closed {
		_ = unix.EpollCtl(w.epfd, unix.EPOLL_CTL_DEL, fd, nil)
	}
}

// close ends the goroutine. Not to be called from tell.
func (w *watch) close() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.epoll.Close()
	<-w.done
}

package vhost

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// doorbellPolite is how long Set lets a write end by itself.
	doorbellPolite = 2 * time.Millisecond
	// doorbellLimit bounds Set and Close when it does not.
	doorbellLimit = 2 * time.Second
)

// doorbell signals the peer over a call or error eventfd, one for the life of
// a vring while its files come and go. It implements virtio.Doorbell.
//
// An eventfd from a peer can block whoever writes to it: O_NONBLOCK belongs to
// the open file description, which the peer shares, and the peer can fill the
// counter. So a worker only leaves a mark, and a goroutine writes. When that
// hangs, only this doorbell does, and soon its session ends.
type doorbell struct {
	bells         *bells
	pending       atomic.Bool // a ring that no file has been told of
	wake          chan struct{}
	rings, writes atomic.Uint64

	// gate is full while someone uses fd: a lock that can be waited for with
	// a limit.
	gate   chan struct{}
	fd     int
	told   uint64 // marks that the writer took
	closed bool

	under, suspect atomic.Uint64 // by their told: the write under way (0: none), the one that lasts

	control sync.Mutex // held by Set and Close
	done    chan struct{}
}

// newDoorbell makes a doorbell without a file; a ring is kept until one comes.
func newDoorbell(b *bells) *doorbell {
	return &doorbell{bells: b, wake: make(chan struct{}, 1), gate: make(chan struct{}, 1), fd: -1}
}

// Ring signals the peer soon. It never blocks, and after Close does nothing.
func (d *doorbell) Ring() {
	d.rings.Add(1)
	if !d.pending.Swap(true) {
		d.poke()
	}
}

// poke makes the writer look. One token is enough: it looks at everything.
func (d *doorbell) poke() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// Counts tells how often Ring was called and how many signals were written.
// Rings that came while one was pending share its signal.
func (d *doorbell) Counts() (rings, writes uint64) { return d.rings.Load(), d.writes.Load() }

// Set changes the file to fd, which is the doorbell's from now on, error or
// not; -1: none. What was rung before is told to the old file first: when a
// ring is stopped, no other may come for it. When Set returns nil the old file
// is closed and nothing writes to it any more.
func (d *doorbell) Set(fd int) error {
	if fd >= 0 {
		if err := checkEventfd(fd); err != nil {
			closeFD(fd)
			return err
		}
	}
	d.control.Lock()
	defer d.control.Unlock()
	return d.swap(fd, false)
}

// Close is Set(-1) for good. The writer has left when it returns nil.
func (d *doorbell) Close() error {
	d.control.Lock()
	defer d.control.Unlock()
	if err := d.swap(-1, true); err != nil {
		return err
	}
	if d.done != nil {
		<-d.done
	}
	return nil
}

// swap puts fd in the place of the old file. The caller holds control, so
// whoever else is at the gate is the writer.
func (d *doorbell) swap(fd int, closing bool) error {
	freed, err := d.enter()
	if err == nil && d.closed {
		<-d.gate
		err = errClosed
	}
	if err != nil {
		closeFD(fd)
		if closing && errors.Is(err, errClosed) {
			return nil
		}
		return err
	}
	if d.fd >= 0 {
		_ = unix.Close(d.fd)
	}
	d.fd, d.closed = fd, closing
	<-d.gate
	if fd >= 0 && d.done == nil {
		d.done = make(chan struct{})
		go d.run()
	}
	if freed {
		d.pending.Store(true) // the write that was freed did not reach the peer
	}
	d.poke()
	return nil
}

// enter takes the gate. A writer that does not leave it is freed: its file is
// replaced under it by one of ours, and a signal makes the kernel begin the
// write again, on the replacement. Nothing that the peer does can keep it.
func (d *doorbell) enter() (freed bool, err error) {
	timer := time.NewTimer(doorbellPolite)
	defer timer.Stop()
	var owed *uint64 // told, when a mark was found that the old file has to hear of
	for end := time.Now().Add(doorbellLimit); time.Now().Before(end); timer.Reset(doorbellPolite) {
		if d.take(timer.C) {
			if freed || d.fd < 0 || !d.pending.Load() || owed != nil && *owed != d.told {
				return freed, nil
			}
			if owed == nil {
				owed = new(d.told)
			}
			<-d.gate
			d.poke()
			runtime.Gosched()
			continue
		}
		if !freed && d.fd >= 0 {
			if err := replaceFile(d.fd); err != nil {
				return false, err
			}
			freed = true
		}
		interruptThreads()
	}
	return freed, fmt.Errorf("doorbell: a write to the peer's eventfd did not end in %v", doorbellLimit)
}

// take takes the gate, or says that it was not free until late. A free gate goes
// before: whoever comes here late may find both.
func (d *doorbell) take(late <-chan time.Time) bool {
	select {
	case d.gate <- struct{}{}:
		return true
	default:
	}
	select {
	case d.gate <- struct{}{}:
		return true
	case <-late:
		return false
	}
}

// run writes what Ring asks for, until Close.
func (d *doorbell) run() {
	defer close(d.done)
	late := d.newLate()
	defer late.Stop()
	for range d.wake {
		d.gate <- struct{}{}
		if d.closed {
			<-d.gate
			return
		}
		// Without a file the mark stays, for the file that comes.
		if d.fd >= 0 && d.pending.Swap(false) {
			d.told++
			d.signal(late)
		}
		<-d.gate
	}
}

// replaceFile puts an eventfd of our own in fd's place. System calls that are
// under way keep the old file; what starts later finds the new one.
func replaceFile(fd int) error {
	ours, err := newEventfd()
	if err != nil {
		return err
	}
	defer unix.Close(ours)
	if err := unix.Dup3(ours, fd, unix.O_CLOEXEC); err != nil {
		return fmt.Errorf("doorbell: dup3: %w", err)
	}
	return nil
}

// interruptThreads sends every thread SIGURG, the signal that the Go runtime
// itself uses to interrupt threads and that does nothing else: system calls
// that wait begin again. The writer's thread is one of them; which one, only
// the runtime knows.
func interruptThreads() {
	tasks, _ := os.ReadDir("/proc/self/task")
	for _, t := range tasks {
		if tid, err := strconv.Atoi(t.Name()); err == nil {
			_ = unix.Tgkill(unix.Getpid(), tid, unix.SIGURG) // it may have ended
		}
	}
}

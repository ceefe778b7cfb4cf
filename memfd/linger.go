package memfd

import (
	"sync"
	"time"
)

// linger is the hysteresis: memory that became free is swept some time later,
// and given back if it was free all the while. So who frees and allocates in
// turns does not map and unmap each time, nor tell the mirrors.
type linger struct {
	wait  time.Duration // negative: for ever
	sweep func() (more bool)

	mu      sync.Mutex
	timer   *time.Timer
	armed   bool // a sweep is to come, or goes on
	again   bool // and another one after it: something became free meanwhile
	stopped bool
	sweeps  sync.WaitGroup
}

func (l *linger) init(wait time.Duration, sweep func() (more bool)) { l.wait, l.sweep = wait, sweep }

// arm has a sweep come that begins later than now. It costs nothing if one is to
// come anyway.
func (l *linger) arm() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.wait < 0 || l.stopped {
		return
	}
	if l.armed {
		l.again = true // if it has begun; else it forgets that
		return
	}
	l.armed = true
	l.sweeps.Add(1)
	if l.timer == nil {
		l.timer = time.AfterFunc(l.wait, l.run)
		return
	}
	l.timer.Reset(l.wait)
}

// run sweeps once, and later again if there is more. A sweep may take long, as it
// waits for mirrors, and does not look again at what becomes free meanwhile.
func (l *linger) run() {
	defer l.sweeps.Done()
	l.mu.Lock()
	l.again = false
	l.mu.Unlock()
	more := l.sweep()
	l.mu.Lock()
	more = more || l.again
	l.armed = false
	l.mu.Unlock()
	if more {
		l.arm()
	}
}

// stop ends the sweeps, and waits for one that goes on.
func (l *linger) stop() {
	l.mu.Lock()
	l.stopped = true
	if l.timer != nil && l.timer.Stop() {
		l.armed = false
		l.sweeps.Done()
	}
	l.mu.Unlock()
	l.sweeps.Wait()
}

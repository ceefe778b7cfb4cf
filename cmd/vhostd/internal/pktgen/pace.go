package pktgen

import (
	"time"

	"golang.org/x/sys/unix"
)

// clock tells the machine's monotonic time in nanoseconds, which is the same in
// all of its processes, without a system call.
type clock struct {
	start time.Time
	base  int64
}

func newClock() (clock, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return clock{}, err
	}
	return clock{time.Now(), ts.Nano()}, nil
}

func (c clock) now() int64 { return c.base + int64(time.Since(c.start)) }

// pace says how many frames may be sent by now.
type pace struct {
	rate  float64 // frames a second; 0: no limit
	first int64
	sent  float64 // since first
}

// behind is how much is made up for after a pause.
const behind = 100 * time.Millisecond

// allow gives at most burst frames, or none and how long to wait for the next.
func (p *pace) allow(now int64, burst int) (n int, wait time.Duration) {
	if p.rate == 0 {
		return burst, 0
	}
	if p.first == 0 {
		p.first = now
	}
	due := float64(now-p.first)/1e9*p.rate + 1 // the first is due at once
	p.sent = max(p.sent, due-1-p.rate*behind.Seconds())
	if n = min(int(due-p.sent), burst); n > 0 {
		p.sent += float64(n)
		return n, 0
	}
	return 0, max(time.Duration((p.sent+1-due)/p.rate*1e9), 1)
}

// undo is for frames that were allowed and not sent.
func (p *pace) undo(n int) { p.sent -= float64(n) }

package vhost

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// A message is logged quietBurst times in quietWindow; what is more is counted
// and told with the next line. A front-end that fails to start connects 3000
// times a second.
const (
	quietBurst  = 10
	quietWindow = 10 * time.Second
)

// quiet is a logger that no peer can flood. Its memory is bounded by the number
// of different messages, which are constants of this package.
type quiet struct {
	log *slog.Logger

	mu    sync.Mutex
	lines map[string]*quietLine
}

// quietLine is what is remembered of one message.
type quietLine struct {
	begin      time.Time // of the window
	count      int       // logged in it
	suppressed int       // since the last line
}

func newQuiet(log *slog.Logger) *quiet {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &quiet{log: log, lines: make(map[string]*quietLine)}
}

// say logs msg, a constant, unless it was said too often. said: it was logged.
func (q *quiet) say(level slog.Level, msg string, args ...any) (said bool) {
	suppressed, ok := q.admit(msg, time.Now())
	if !ok {
		return false
	}
	if suppressed > 0 {
		args = append(args[:len(args):len(args)], "suppressed", suppressed)
	}
	q.log.Log(context.Background(), level, msg, args...)
	return true
}

// admit says whether msg may be said now, and how often it was not since it
// was said last.
func (q *quiet) admit(msg string, now time.Time) (suppressed int, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	l := q.lines[msg]
	if l == nil {
		l = new(quietLine)
		q.lines[msg] = l
	}
	if now.Sub(l.begin) >= quietWindow {
		l.begin, l.count = now, 0
	}
	if l.count >= quietBurst {
		l.suppressed++
		return 0, false
	}
	l.count++
	suppressed, l.suppressed = l.suppressed, 0
	return suppressed, true
}

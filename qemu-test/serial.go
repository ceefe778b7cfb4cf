package qemutest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/vhostd/vhostd/qemu-test/guestapi"
)

// errRestarted ends what was asked of a guest that is no more.
var errRestarted = errors.New("the guest has restarted (its console says why)")

// agent is our end of the guest's virtio-serial port.
type agent struct {
	conn net.Conn

	mu      sync.Mutex
	last    uint64 // id
	waiting map[uint64]chan guestapi.Response
	hello   guestapi.Hello
	boots   int           // hellos so far
	changed chan struct{} // closed at each hello and at the end
	ended   error
	allowed int // boots that were asked for
}

func newAgent(conn net.Conn) *agent {
	a := &agent{
		conn: conn, waiting: make(map[uint64]chan guestapi.Response),
		changed: make(chan struct{}), allowed: 1,
	}
	go a.read()
	return a
}

func (a *agent) read() {
	lines := bufio.NewScanner(a.conn)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var l guestapi.Line
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			continue // the end of a line that a reboot cut
		}
		if l.Boot != "" {
			a.restarted(l.Hello)
			continue
		}
		a.mu.Lock()
		w := a.waiting[l.ID]
		delete(a.waiting, l.ID)
		a.mu.Unlock()
		if w != nil {
			w <- l.Response
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ended = errors.New("QEMU has closed the guest's port")
	a.fail()
}

// restarted notes a boot. What the boot before was asked will not be answered.
func (a *agent) restarted(h guestapi.Hello) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.hello = h
	a.boots++
	if a.boots > a.allowed {
		a.ended = errRestarted
	}
	a.fail()
	a.changed = make(chan struct{})
}

// fail wakes all who wait; mu is held.
func (a *agent) fail() {
	for id, w := range a.waiting {
		delete(a.waiting, id)
		close(w)
	}
	close(a.changed)
}

// ready waits until the guest has booted n times.
func (a *agent) ready(ctx context.Context, n int) (guestapi.Hello, error) {
	for {
		a.mu.Lock()
		hello, boots, ended, changed := a.hello, a.boots, a.ended, a.changed
		a.mu.Unlock()
		switch {
		case ended != nil:
			return hello, ended
		case boots >= n:
			return hello, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return hello, context.Cause(ctx)
		}
	}
}

// call asks for an operation and waits for its end.
func (a *agent) call(ctx context.Context, op string, args any) (json.RawMessage, error) {
	raw, err := json.Marshal(args)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	if a.ended != nil {
		defer a.mu.Unlock()
		return nil, a.ended
	}
	a.last++
	id, w := a.last, make(chan guestapi.Response, 1)
	a.waiting[id] = w
	line, err := json.Marshal(guestapi.Request{ID: id, Op: op, Args: raw})
	if err == nil {
		_, err = a.conn.Write(append(line, '\n'))
	}
	a.mu.Unlock()
	if err != nil {
		return nil, err
	}
	select {
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case r, ok := <-w:
		switch {
		case !ok:
			return nil, errRestarted
		case r.Error != "":
			return nil, errors.New(r.Error)
		}
		return r.Result, nil
	}
}

// Ask asks the machine's guest for an operation and waits for its result.
func Ask[R any](ctx context.Context, m *Machine, op string, args any) (R, error) {
	var result R
	raw, err := m.agent.call(ctx, op, args)
	if err == nil {
		err = json.Unmarshal(raw, &result)
	}
	if err != nil {
		return result, fmt.Errorf("%s: %s: %w", m.Name, op, err)
	}
	return result, nil
}

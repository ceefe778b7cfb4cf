package vhost

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/vhostd/vhostd/virtio"
)

// life does everything once that a front-end can do, and gives the first error.
// closing is called before the end, which is no error's business.
func life(t testing.TB, path string, s *supply, timeout time.Duration, closing func()) (err error) {
	f, err := Dial(t.Context(), path, FrontendConfig{Device: virtio.Entropy, Memory: s, Timeout: timeout})
	if err != nil {
		return err
	}
	defer func() {
		closing()
		err = errors.Join(err, f.Close())
	}()
	ctx := t.Context()
	one := make([]byte, 1)
	for _, step := range []func() error{
		func() error { return f.Accept(ctx, virtio.FeatureVersion1) },
		func() error {
			_, err := f.Connect(ctx, 0, newHandDriver(f, s, 0, 0).placement(0))
			return err
		},
		func() error { return f.Start(ctx) },
		func() error { return s.arrive(ctx, 3) },
		func() error { return s.leave(ctx, 3) },
		func() error { return f.Enable(ctx, 0, false) },
		func() error { return f.WriteConfig(ctx, 8, one) },
		func() error { return f.ReadConfig(ctx, 8, one) },
		func() error { _, err := f.Disconnect(ctx, 0); return err },
		func() error { return f.Reset(ctx) },
		func() error { return f.ReadConfig(ctx, 8, one) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// lies are what a hostile back-end answers to a message, which has an answer.
var lies = map[string]func(m *message) action{
	"nothing":         func(*message) action { return action{silent: true} },
	"the end":         func(*message) action { return action{hangUp: true} },
	"half a header":   func(m *message) action { return action{raw: packet(Request(m.Request), 5, nil)[:7]} },
	"another request": func(m *message) action { return action{raw: packet(Request(m.Request+1), 5, bytesOf(U64(0)))} },
	"no reply flag":   func(m *message) action { return action{raw: packet(Request(m.Request), 1, bytesOf(U64(0)))} },
	"seven bytes":     func(m *message) action { return action{raw: packet(Request(m.Request), 5, make([]byte, 7))} },
	"too much":        func(m *message) action { return action{raw: packet(Request(m.Request), 5, make([]byte, maxPayload))} },
	"more than fits":  func(m *message) action { return action{raw: []byte{1, 0, 0, 0, 5, 0, 0, 0, 255, 255, 255, 255}} },
	"files": func(m *message) action {
		return action{raw: packet(Request(m.Request), 5, bytesOf(U64(0))), files: 3}
	},
	"too many files": func(m *message) action {
		return action{raw: packet(Request(m.Request), 5, bytesOf(U64(0))), files: maxFDs + 1}
	},
}

func TestFrontendSurvivesEveryLieAtEveryMessage(t *testing.T) {
	for name, lie := range lies {
		t.Run(name, func(t *testing.T) {
			noLeaks(t)
			timeout := testTimeout
			if name == "nothing" || name == "half a header" {
				timeout = 50 * time.Millisecond
			}
			for n := 1; ; n++ {
				left, lied := n, ""
				r := newReferee(t, 0)
				r.follow(func(m *message) action {
					i, _ := Request(m.Request).info()
					if i.answer != replied && !m.needReply() {
						return action{}
					}
					if left--; left != 0 {
						return action{}
					}
					lied = describeSent(m)
					return lie(m)
				})
				err := life(t, r.path, newSupply(t, 4, 2), timeout, func() { r.follow(nil) })
				r.mu.Lock()
				told := lied
				r.mu.Unlock()
				if told == "" {
					break
				}
				if err == nil {
					t.Errorf("to %s: no error", told)
				}
			}
		})
	}
}

// What was answered once is not taken for the answer to the next message.
func TestFrontendAnAnswerThatComesTwiceIsFatal(t *testing.T) {
	noLeaks(t)
	r := newReferee(t, 0, func(r *referee) {
		r.script = func(m *message) action {
			if Request(m.Request) == SetFeatures {
				p := packet(SetFeatures, 5, bytesOf(U64(0)))
				return action{raw: append(p, p...)}
			}
			return action{}
		}
	})
	if err := life(t, r.path, newSupply(t, 4, 2), testTimeout, func() {}); !errors.Is(err, ErrLost) {
		t.Error(err)
	}
}

// An allocation ends with its own context, whatever the back-end does; what is
// acknowledged behind its back is taken back.
func TestFrontendABackEndThatIsSlowHoldsUpNoAllocation(t *testing.T) {
	noLeaks(t)
	s := newSupply(t, 4, 2)
	r := newReferee(t, 0)
	f := front(t, r.path, s, nil)
	slow := make(chan struct{})
	r.follow(func(m *message) action {
		if Request(m.Request) == AddMemReg {
			<-slow
		}
		return action{}
	})
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(time.Millisecond, cancel)
	within(t, "the allocation's end", func() {
		if err := s.arrive(ctx, 2, 3); !errors.Is(err, context.Canceled) {
			t.Errorf("arrived: %v", err)
		}
	})
	within(t, "another one's", func() {
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := s.arrive(ctx, 3); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("arrived: %v", err)
		}
	})
	close(slow)
	ok(t, f.Enable(t.Context(), 0, true)) // its turn comes when all is undone
	covers(t, r.table(), s, 0, 1)
	if n := len(f.share.files); n != 1 {
		t.Errorf("%d files are kept", n)
	}
}

// A back-end that does not answer costs its connection. Until it has let go it
// may still reach memory, so none is punched and no other back-end let in.
func TestFrontendABackEndThatHangsKeepsNobodyButItself(t *testing.T) {
	noLeaks(t)
	s := newSupply(t, 4, 2)
	r := newReferee(t, 0, func(r *referee) { r.left = make(chan struct{}) })
	f := front(t, r.path, s, func(c *FrontendConfig) { c.Timeout = 50 * time.Millisecond })
	line, err := f.Connect(t.Context(), 0, newHandDriver(f, s, 0, 0).placement(0))
	ok(t, err)
	ok(t, line.Wait(t.Context())) // the first returns at once
	r.follow(func(m *message) action { return action{silent: Request(m.Request) == AddMemReg} })
	ok(t, s.arrive(t.Context(), 2)) // there is nobody who could not be told
	within(t, "the end of a wait", func() {
		if err := line.Wait(t.Context()); !errors.Is(err, ErrLost) {
			t.Errorf("waited for a ring that nobody serves: %v", err)
		}
	})
	if err := s.leave(t.Context(), 1); !errors.Is(err, errLingers) {
		t.Errorf("memory left a back-end that has it: %v", err)
	}
	if err := f.Start(t.Context()); !errors.Is(err, ErrLost) {
		t.Errorf("started: %v", err)
	}
	select {
	case e := <-f.Events():
		t.Errorf("told %+v while the back-end has memory", e)
	default:
	}
	r.follow(nil)
	close(r.left)
	event(t, f, virtio.Lost)
	ok(t, s.leave(t.Context(), 1))
	event(t, f, virtio.Back)
	covers(t, r.table(), s, 0, 2)
}

func TestFrontendWaitsForAHungBackEndNoLongerThanItIsTold(t *testing.T) {
	noLeaks(t)
	s := newSupply(t, 4, 2)
	hold := make(chan struct{})
	r := newReferee(t, 0, func(r *referee) { r.left = hold })
	defer close(hold)
	f := front(t, r.path, s, func(c *FrontendConfig) { c.Timeout, c.Abandon = 50*time.Millisecond, time.Millisecond })
	r.follow(func(m *message) action { return action{silent: Request(m.Request) == GetConfig} })
	if err := f.ReadConfig(t.Context(), 0, make([]byte, 1)); !errors.Is(err, ErrLost) {
		t.Errorf("read: %v", err)
	}
	if e := event(t, f, virtio.Lost); e.Err == nil {
		t.Error("nobody is told that the back-end was given up")
	}
}

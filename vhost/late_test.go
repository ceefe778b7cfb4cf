package vhost

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio"
)

// bystander is a session that shares its domain with others and has no worker
// of its own: its ring is one that others fill.
type bystander struct {
	*Conn
	g       *guest
	session *Session
	ended   <-chan error
	log     lineCounter
}

func newBystander(t *testing.T, r Runner) *bystander {
	t.Helper()
	d := newNetDevice()
	b := &bystander{g: newGuest(t, 0x10000)}
	b.Conn, b.ended = dialogue(t, &Server{
		// It bounds messages too, so a machine that is slow must keep it.
		Device: d, Runner: r, Timeout: time.Second, Log: slog.New(slog.NewTextHandler(&b.log, nil)),
	})
	b.session = <-d.opened
	ok(t, b.AddMemReg(b.g.region, b.g.fd))
	b.g.start(t, b.Conn, 0, 0)
	return b
}

// change begins a change that waits for all workers of the domain; its answer
// comes to acked.
func (b *bystander) change(t *testing.T) (acked <-chan error) {
	t.Helper()
	answer := make(chan error, 1)
	go func() { answer <- b.RemMemReg(b.g.region) }()
	eventually(t, "the session waits", func() bool {
		b.log.mu.Lock()
		defer b.log.mu.Unlock()
		return bytes.Contains(b.log.b.Bytes(), []byte("workers that are late"))
	})
	return answer
}

func TestAWorkerThatIsLateEndsItsOwnSessionOnly(t *testing.T) {
	noLeaks(t)
	runner := Events(nil)
	b := newBystander(t, runner)

	device := newFiller(twoRings)
	entered, leave := make(chan struct{}, 1), make(chan struct{})
	device.serve = func(q *virtio.Queue) error {
		if _, there := q.Next(); there {
			entered <- struct{}{}
			<-leave
		}
		return nil
	}
	_, g, _ := running(t, &Server{Device: device, Runner: runner, Timeout: testTimeout})
	culprit := <-device.opened
	g.post()
	<-entered

	acked := b.change(t)
	within(t, "the culprit's failure", func() { <-culprit.Context().Done() })
	err := context.Cause(culprit.Context())
	late, is := errors.AsType[*memtable.LateError](err)
	if !is || len(late.Readers) != 1 || !strings.HasPrefix(late.Readers[0], culprit.name) || !strings.HasSuffix(late.Readers[0], "queue 0") {
		t.Errorf("the culprit, %s, was told: %v", culprit.name, err)
	}
	select {
	case err := <-acked:
		t.Errorf("acknowledged while a worker is inside: %v", err)
	case err := <-b.ended:
		t.Fatalf("the session of nobody's worker ended: %v", err)
	default:
	}
	close(leave)
	ok(t, <-acked)
	lives(t, b.Conn)
}

func TestASessionThatWaitsForOthersCanBeEnded(t *testing.T) {
	noLeaks(t)
	runner := Events(nil)
	b := newBystander(t, runner)
	stranger := runner.Domain().Join("nobody's")
	defer stranger.Close()
	stranger.Enter()
	b.change(t)
	b.session.Info() // nor does it keep who asks how it is doing
	why := errors.New("the operator unplugs it")
	b.session.Fail(why)
	if err := dies(t, b.ended); !errors.Is(err, why) {
		t.Errorf("it ended because of: %v", err)
	}
}

package qemutest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"testing"

	"github.com/vhostd/vhostd/qemu-test/guestapi"
)

// fakeGuest is the guest's end of an agent's port.
type fakeGuest struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Scanner
}

func newFakeGuest(t *testing.T) (*Machine, *fakeGuest) {
	ours, theirs := net.Pipe()
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	return &Machine{Guest: Guest{Name: "fake"}, agent: newAgent(ours)}, &fakeGuest{t, theirs, bufio.NewScanner(theirs)}
}

func (g *fakeGuest) say(format string, args ...any) {
	if _, err := fmt.Fprintf(g.conn, format+"\n", args...); err != nil {
		g.t.Error(err)
	}
}

func (g *fakeGuest) request() (r guestapi.Request) {
	if !g.in.Scan() {
		g.t.Error("no request came")
		return r
	}
	if err := json.Unmarshal(g.in.Bytes(), &r); err != nil {
		g.t.Error(err)
	}
	return r
}

func TestAnswersFindTheirRequestsInAnyOrder(t *testing.T) {
	m, g := newFakeGuest(t)
	go func() {
		g.say(`{"boot":"1"}`)
		a, b := g.request(), g.request()
		if a.Op != "a" {
			a, b = b, a
		}
		g.say(`{"id":%d,"result":"to b"}`, b.ID)
		g.say(`{"id":%d,"error":"no a here"}`, a.ID)
	}()
	if _, err := m.agent.ready(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	failed := make(chan error, 1)
	go func() {
		_, err := Ask[string](t.Context(), m, "a", nil)
		failed <- err
	}()
	if got, err := Ask[string](t.Context(), m, "b", nil); err != nil || got != "to b" {
		t.Errorf("b: %q, %v", got, err)
	}
	if err := <-failed; err == nil || err.Error() != "fake: a: no a here" {
		t.Errorf("a: %v", err)
	}
}

func TestRestartThatNobodyAskedForEndsWhatWasAsked(t *testing.T) {
	m, g := newFakeGuest(t)
	go func() {
		g.say(`{"boot":"1"}`)
		g.request()
		g.say(`{"id":1,"resu`) // the guest dies in the middle of a line
		g.say(`{"boot":"2"}`)
	}()
	if _, err := m.agent.ready(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if _, err := Ask[string](t.Context(), m, "never answered", nil); !errors.Is(err, errRestarted) {
		t.Errorf("error %v", err)
	}
	if _, err := Ask[string](t.Context(), m, "after", nil); !errors.Is(err, errRestarted) {
		t.Errorf("afterwards %v", err)
	}
}

func TestRestartThatWasAskedForIsWaitedFor(t *testing.T) {
	m, g := newFakeGuest(t)
	go func() {
		g.say(`{"boot":"1"}`)
		g.say(`{"id":%d}`, g.request().ID)
		g.say("\n" + `{"boot":"2"}`)
		g.say(`{"id":%d,"result":"back"}`, g.request().ID)
	}()
	if _, err := m.agent.ready(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	reboot := func(ctx context.Context) error {
		_, err := m.agent.call(ctx, guestapi.OpReboot, nil)
		return err
	}
	if err := m.again(t.Context(), reboot); err != nil {
		t.Fatal(err)
	}
	if got, err := Ask[string](t.Context(), m, "x", nil); err != nil || got != "back" || m.Hello.Boot != "2" {
		t.Errorf("boot %s: %q, %v", m.Hello.Boot, got, err)
	}
}

func TestAskEndsWithItsContextAndWithQEMU(t *testing.T) {
	m, g := newFakeGuest(t)
	go g.request()
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("why")
	cancel(why)
	if _, err := Ask[string](ctx, m, "x", nil); !errors.Is(err, why) {
		t.Errorf("error %v", err)
	}
	g.conn.Close()
	if _, err := m.agent.ready(t.Context(), 1); err == nil {
		t.Error("a guest is ready whose port has closed")
	}
}

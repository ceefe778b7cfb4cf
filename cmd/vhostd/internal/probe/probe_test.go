package probe

import (
	"context"
	"encoding/binary"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vhostd/vhostd/vhost"
	"github.com/vhostd/vhostd/virtio"
)

// patience is how long the probe waits in tests where the back-end is silent.
const patience = 200 * time.Millisecond

// fake is a back-end that answers as a test says.
type fake struct {
	answers map[vhost.Request][]byte // payloads of replies; nil: it hangs up
	flags   map[vhost.Request]uint32 // of replies, where not 0x5
	refuses map[vhost.Request]bool   // with code 1
	silent  map[vhost.Request]bool
	seen    []vhost.Request
}

// sound is a network device without faults.
func sound() *fake {
	return &fake{answers: map[vhost.Request][]byte{
		vhost.GetFeatures: u64(uint64(virtio.FeatureVersion1 | virtio.FeatureProtocol | virtio.FeatureLogAll | 1<<15)),
		vhost.GetProtocolFeatures: u64(uint64(vhost.ProtocolMQ | vhost.ProtocolReplyAck | vhost.ProtocolRARP | vhost.ProtocolBackendReq |
			vhost.ProtocolLogSHMFD | vhost.ProtocolMemSlots | vhost.ProtocolStatus)),
		vhost.GetQueueNum: u64(4), vhost.GetMaxMemSlots: u64(32), vhost.GetStatus: u64(0),
	}}
}

func u64(n uint64) []byte { return binary.NativeEndian.AppendUint64(nil, n) }

// serve answers connections, one after the other.
func (f *fake) serve(l *net.UnixListener) {
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			return
		}
		f.talk(vhost.NewConn(c, time.Minute))
	}
}

// talk answers until either end hangs up.
func (f *fake) talk(c *vhost.Conn) {
	defer c.Close()
	for {
		r, flags, ask, _, err := c.Receive()
		if err != nil {
			return
		}
		f.seen = append(f.seen, r)
		answer, known := f.answers[r]
		switch {
		case f.silent[r]:
			continue
		case known && answer == nil:
			return
		case f.refuses[r]:
			answer = u64(1)
		case r == vhost.GetConfig && known:
			answer = append(slices.Clone(ask[:12]), answer...)
		case !known && flags&flagNeedReply == 0:
			continue
		case !known:
			answer = u64(0)
		}
		reply := f.flags[r]
		if reply == 0 {
			reply = flagVersion | flagReply
		}
		if c.Send(r, reply, answer) != nil {
			return
		}
	}
}

// probed runs a probe against f.
func probed(t *testing.T, f *fake) *Report {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := vhost.Listen(path, vhost.ListenOptions{UID: -1, GID: -1})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		f.serve(l)
		close(done)
	}()
	defer func() {
		l.Close()
		<-done
	}()
	open := func(ctx context.Context) (*vhost.Conn, error) { return vhost.DialConn(ctx, path, patience) }
	r, err := Run(t.Context(), open, unknown)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// wants checks that each of the texts is in a finding, and that there are no more.
func (r *Report) wants(t *testing.T, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !slices.ContainsFunc(r.Unusual, func(f Finding) bool { return strings.Contains(f.What, text) }) {
			t.Errorf("no finding says %q; they are %q", text, r.Unusual)
		}
	}
	if len(r.Unusual) != len(texts) {
		t.Errorf("%d findings, want %d: %q", len(r.Unusual), len(texts), r.Unusual)
	}
	for _, f := range r.Unusual {
		if f.Why == "" {
			t.Errorf("%q has no explanation", f.What)
		}
	}
}

func TestASoundBackEndHasNothingUnusual(t *testing.T) {
	f := sound()
	r := probed(t, f)
	r.wants(t)
	if r.Device != "net" || *r.Queues != 4 || *r.Slots != 32 || *r.Status != 0 {
		t.Errorf("%s, queues %d, slots %d, status %d", r.Device, *r.Queues, *r.Slots, *r.Status)
	}
	for _, m := range r.Messages {
		if m.Answer != Replied && m.Answer != Acknowledged && m.Answer != Taken {
			t.Errorf("%s: %s", m.Request, m.Answer)
		}
	}
}

// What starts a ring, shares memory or changes the device for others is never
// sent, whatever is offered.
func TestAProbeOnlyAsks(t *testing.T) {
	f := sound()
	f.answers[vhost.GetProtocolFeatures] = u64(1<<24 - 1)
	probed(t, f)
	harmless := []vhost.Request{vhost.GetFeatures, vhost.GetProtocolFeatures, vhost.SetProtocolFeatures, vhost.SetOwner,
		vhost.GetQueueNum, vhost.GetMaxMemSlots, vhost.GetStatus, vhost.GetConfig, vhost.GetInflightFD, vhost.SetBackendReqFD,
		vhost.SetVringCall, vhost.SetVringEnable, vhost.SetFeatures}
	for _, r := range f.seen {
		if !slices.Contains(harmless, r) {
			t.Errorf("it sent %v", r)
		}
	}
}

func TestAMessageThatEndsTheConnectionCostsOnlyItsAnswer(t *testing.T) {
	for name, f := range map[string]*fake{"hangs up": sound(), "silent": sound()} {
		t.Run(name, func(t *testing.T) {
			if name == "silent" {
				f.silent = map[vhost.Request]bool{vhost.GetQueueNum: true}
			} else {
				f.answers[vhost.GetQueueNum] = nil
			}
			r := probed(t, f)
			r.wants(t, "GET_QUEUE_NUM")
			if r.Slots == nil || *r.Slots != 32 {
				t.Error("what comes after was not asked on another connection")
			}
			if m := r.asked("SET_FEATURES"); m == nil || m.Answer != Acknowledged {
				t.Errorf("REPLY_ACK was not agreed on again: %+v", m)
			}
		})
	}
}

func TestABackEndThatHangsUpEveryTimeIsLeftAlone(t *testing.T) {
	f := sound()
	for _, r := range []vhost.Request{vhost.GetQueueNum, vhost.GetMaxMemSlots, vhost.GetStatus, vhost.SetBackendReqFD,
		vhost.SetVringCall, vhost.SetVringEnable, vhost.SetOwner, vhost.SetFeatures} {
		f.answers[r] = nil
	}
	r := probed(t, f)
	if !slices.ContainsFunc(r.Unusual, func(f Finding) bool { return strings.Contains(f.What, "8 connections") }) {
		t.Errorf("it does not say that it gave up: %q", r.Unusual)
	}
}

func TestNobodyToAskIsAnError(t *testing.T) {
	f := sound()
	f.answers[vhost.GetFeatures] = nil
	path := filepath.Join(t.TempDir(), "s")
	l, err := vhost.Listen(path, vhost.ListenOptions{UID: -1, GID: -1})
	if err != nil {
		t.Fatal(err)
	}
	go f.serve(l)
	open := func(ctx context.Context) (*vhost.Conn, error) { return vhost.DialConn(ctx, path, patience) }
	if _, err := Run(t.Context(), open, unknown); err == nil || !strings.Contains(err.Error(), "GET_FEATURES: hung up") {
		t.Errorf("got %v", err)
	}
	l.Close()
	if _, err := Run(t.Context(), open, unknown); err == nil {
		t.Error("nobody listens, and there is no error")
	}
}

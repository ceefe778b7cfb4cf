package vhost

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/virtio"
)

// lived is the log of a whole life with a back-end, which must go well.
func lived(t *testing.T, r *referee) []string {
	t.Helper()
	noLeaks(t)
	var log []string
	if err := life(t, r.path, newSupply(t, 4, 2), testTimeout, func() { log = r.log() }); err != nil && !errors.Is(err, ErrNoConfig) && !errors.Is(err, errors.ErrUnsupported) {
		t.Fatal(err)
	}
	return append(log, r.log()[len(log):]...)
}

// index is where the first message that begins with prefix is in a log; -1:
// there is none.
func index(log []string, prefix string) int {
	return slices.IndexFunc(log, func(s string) bool { return strings.HasPrefix(s, prefix) })
}

// count is how many messages begin with prefix.
func count(log []string, prefix string) (n int) {
	for _, s := range log {
		if strings.HasPrefix(s, prefix) {
			n++
		}
	}
	return n
}

// inOrder fails unless messages that begin with these came in this order.
func inOrder(t *testing.T, log []string, prefixes ...string) {
	t.Helper()
	rest := log
	for _, p := range prefixes {
		i := index(rest, p)
		if i < 0 {
			t.Fatalf("no %s, in its place, in\n%s", p, strings.Join(log, "\n"))
		}
		rest = rest[i+1:]
	}
}

// Rule F1★ (vhost-user, Ring states): Without PROTOCOL_FEATURES nothing of them
// is sent, no SET_VRING_ENABLE, and rings count as enabled.
func TestFrontWithoutProtocolFeaturesRingsAreEnabled(t *testing.T) {
	r := newReferee(t, 0, func(r *referee) { r.features = virtio.FeatureVersion1 })
	log := lived(t, r) // the referee holds it against the rule
	for _, p := range []string{"GET_PROTOCOL", "SET_PROTOCOL", "SET_VRING_ENABLE", "ADD_MEM_REG"} {
		if count(log, p) != 0 {
			t.Errorf("%s was sent", p)
		}
	}
	inOrder(t, log, "SET_FEATURES", "SET_MEM_TABLE", "SET_VRING_KICK", "GET_VRING_BASE")
}

// Rule F2 (vhost-user, Ring states): PROTOCOL_FEATURES is sent back in
// SET_FEATURES when it was offered.
func TestFrontSendsProtocolFeaturesBack(t *testing.T) {
	r := newReferee(t, 0)
	lived(t, r)
	r.look(func(m *match) {
		if want := virtio.FeatureVersion1 | virtio.FeatureProtocol; m.agreed != want {
			t.Errorf("agreed on %#x, want %#x", m.agreed, want)
		}
	})
}

// Rule F3★ (vhost-user, SET_PROTOCOL_FEATURES): Only what is implemented is
// agreed on, whatever is offered.
func TestFrontAgreesOnWhatItImplements(t *testing.T) {
	r := newReferee(t, 0)
	lived(t, r)
	r.look(func(m *match) {
		if want := implementedProtocol &^ ProtocolMTU; m.protocol != want {
			t.Errorf("agreed on %v, want %v", m.protocol.Names(), want.Names())
		}
	})
}

// Rule F4 (vhost-user, Multiple queue support): GET_QUEUE_NUM is asked only with
// MQ, and a back-end that came back with too few rings is not used.
func TestFrontAsksForTheNumberOfRingsOnlyWithMQ(t *testing.T) {
	if log := lived(t, newReferee(t, ProtocolMQ)); count(log, "GET_QUEUE_NUM") != 0 {
		t.Error("it was asked without MQ")
	}
	r := newReferee(t, 0)
	f := front(t, r.path, newSupply(t, 4, 2), nil)
	if f.Queues() != 4 {
		t.Errorf("%d rings", f.Queues())
	}
	r.follow(func(m *message) action {
		if Request(m.Request) == GetQueueNum {
			return action{raw: packet(GetQueueNum, 5, bytesOf(U64(3)))}
		}
		return action{}
	})
	r.last().c.Close()
	event(t, f, virtio.Lost)
	eventually(t, "the reason is shown", func() bool { return strings.Contains(f.Info().Failed, "3 rings") })
}

// Rule F5 (vhost-user, SET_OWNER): SET_OWNER is sent once per connection.
func TestFrontBecomesOwnerOnce(t *testing.T) {
	if n := count(lived(t, newReferee(t, 0)), "SET_OWNER"); n != 1 {
		t.Errorf("%d times", n)
	}
}

// Rule F6 (vhost-user, Communication): Files go with the first byte of their
// message, in one sendmsg.
func TestFrontSendsFilesWithTheFirstByte(t *testing.T) {
	w, peer := pair(t, testTimeout)
	fd, err := newEventfd()
	ok(t, err)
	defer unix.Close(fd)
	ok(t, NewConn(w.c, testTimeout).SetVringCall(1, fd))
	b, oob := make([]byte, 1), make([]byte, 64)
	n, oobn, _, _, err := peer.ReadMsgUnix(b, oob)
	if err != nil || n != 1 || oobn == 0 {
		t.Errorf("the first byte came with %d bytes of control data (%v)", oobn, err)
	}
	cmsgs, err := unix.ParseSocketControlMessage(oob[:oobn])
	ok(t, err)
	for i := range cmsgs {
		fds, err := unix.ParseUnixRights(&cmsgs[i])
		ok(t, err)
		for _, fd := range fds {
			unix.Close(fd)
		}
	}
}

// Rule F7 (vhost-user, REPLY_ACK): An acknowledgement is asked for only once it
// was agreed on.
func TestFrontAsksForNoAckThatWasNotAgreedOn(t *testing.T) {
	// The referee looks at every message's flags.
	lived(t, newReferee(t, ProtocolReplyAck))
	lived(t, newReferee(t, 0))
}

// Rule F8 (vhost-user, Header): An answer has its request's number, flags 5 and
// its own size; any other one ends the connection.
func TestFrontAnAnswerToSomethingElseEndsTheConnection(t *testing.T) {
	noLeaks(t)
	r := newReferee(t, 0)
	f := front(t, r.path, newSupply(t, 4, 2), nil)
	for _, raw := range [][]byte{
		packet(GetStatus, 5, bytesOf(U64(0))),
		packet(GetConfig, 13, make([]byte, 13)),
		packet(GetConfig, 5, make([]byte, 12+2)),
	} {
		r.follow(func(m *message) action {
			if Request(m.Request) == GetConfig {
				return action{raw: raw}
			}
			return action{}
		})
		if err := f.ReadConfig(t.Context(), 0, make([]byte, 1)); !errors.Is(err, ErrLost) {
			t.Errorf("% x was taken: %v", raw, err)
		}
		event(t, f, virtio.Lost)
		event(t, f, virtio.Back)
	}
}

// Rule F10★ (QEMU 7.2): The back-end's channel is served while an answer on the
// main socket is waited for.
func TestFrontServesTheChannelWhileItWaits(t *testing.T) {
	noLeaks(t)
	r := newReferee(t, 0)
	f := front(t, r.path, newSupply(t, 4, 2), nil)
	r.follow(func(m *message) action {
		if Request(m.Request) == GetConfig {
			r.look(func(m *match) {
				channel := &Conn{w: m.channel, protocol: ProtocolReplyAck}
				ok(t, channel.tell(Request(BackendConfigChange), nil)) // before this is answered
			})
		}
		return action{}
	})
	ok(t, f.ReadConfig(t.Context(), 0, make([]byte, 8)))
	event(t, f, virtio.ConfigChanged)
}

// Rule F28 (virtio 1.2, 5.1.6.5): The control queue and what needs it are kept
// away from the back-end of a network device.
func TestFrontKeepsTheControlQueueToTheDriver(t *testing.T) {
	noLeaks(t)
	ctrl, _ := virtio.ParseFeature(virtio.Net, "ctrl_vq")
	mac, _ := virtio.ParseFeature(virtio.Net, "mac")
	r := newReferee(t, 0, func(r *referee) { r.features |= ctrl | mac })
	f, err := Dial(t.Context(), r.path, FrontendConfig{Device: virtio.Net, Memory: newSupply(t, 1, 1), Timeout: testTimeout})
	ok(t, err)
	defer f.Close()
	if f.Features()&(ctrl|mac) != mac || f.Queues() != 8 {
		t.Errorf("%d rings, features %v", f.Queues(), f.Features().Names(virtio.Net))
	}
	if f.Accept(t.Context(), ctrl) == nil {
		t.Error("the control queue was accepted")
	}
}

// Rule F44 (vhost-user, POSTCOPY_ADVISE): Nothing of a migration is sent, and
// none of its protocol features is agreed on.
func TestFrontSendsNothingOfAMigration(t *testing.T) {
	r := newReferee(t, 0)
	log := lived(t, r)
	for _, p := range []string{"POSTCOPY", "SET_LOG", "SEND_RARP", "IOTLB"} {
		if count(log, p) != 0 {
			t.Errorf("%s was sent", p)
		}
	}
	r.look(func(m *match) {
		if m.protocol&(ProtocolPageFault|ProtocolLogSHMFD|ProtocolHostNotifier|ProtocolDeviceState) != 0 || m.agreed.Has(virtio.FeatureLogAll) {
			t.Errorf("agreed on %v", m.protocol.Names())
		}
	})
}

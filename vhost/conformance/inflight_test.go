package conformance

import (
	"testing"

	"github.com/vhostd/vhostd/vhost"
)

// inflight is a payload of the two in-flight messages: 2 rings of 16.
var inflight = []byte{23: 0, 16: 2, 18: ringSize}

// Rule 99 (vhost-user, GET_INFLIGHT_FD): Not offered: INFLIGHT_SHMFD. The
// request is due a description and a file, and no description says no: the
// connection ends without an answer.
func TestGetInflightFDIsRefused(t *testing.T) {
	_, protocol := offers(t, network())
	if protocol.Has(vhost.ProtocolInflightSHMFD) {
		t.Error("INFLIGHT_SHMFD is offered")
	}
	for _, size := range []int{20, 24} {
		f := plug(t, network(), options{})
		f.send(vhost.GetInflightFD, needReply, inflight[:size])
		if err := f.closed(); err == nil {
			t.Error("the session ended as if its peer had left")
		}
	}
}

// Rule 100★ (vhost-user, SET_INFLIGHT_FD): Not offered: INFLIGHT_SHMFD. The
// request is refused before and after any message about rings; its file is
// closed, and rings run.
func TestSetInflightFDIsRefused(t *testing.T) {
	f := plug(t, network(), options{})
	r := f.ring(0)
	refuse := func() {
		t.Helper()
		for _, size := range []int{20, 24} {
			file, gone := f.canary()
			f.nacked(vhost.SetInflightFD, inflight[:size], file)
			gone()
		}
	}
	refuse()
	r.start()
	refuse()
	r.works()
}

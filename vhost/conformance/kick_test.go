package conformance

import (
	"testing"

	"github.com/vhostd/vhostd/virtio"
)

// Rule 57★ (vhost-user, SET_VRING_KICK): the message starts the ring, which is looked at at once: what is there already is served though no kick ever comes.
func TestRingIsLookedAtWhenItStarts(t *testing.T) {
	for _, enableFirst := range []bool{false, true} {
		f := plug(t, entropy(), options{})
		r := f.ring(0)
		r.configure()
		r.lay()
		r.lay()
		if enableFirst {
			must(t, f.SetVringEnable(0, true))
		}
		must(t, f.SetVringKick(0, r.kick))
		must(t, f.SetVringEnable(0, true))
		r.returned()
		if takeSignal(r.kick) {
			t.Error("the kick file was written")
		}
	}
}

// Rule 58 (vhost-user, "Ring states"): a front-end that starts the ring by its first kick works too, as does one whose kick file comes signalled.
func TestRingThatIsKickedLaterRuns(t *testing.T) {
	for _, signalled := range []bool{false, true} {
		f := plug(t, entropy(), options{})
		r := f.ring(0)
		if signalled {
			r.ringKick()
		}
		r.start()
		for range 2 * ringSize {
			r.works()
		}
	}
}

// Rule 59★ (vhost-user, SET_VRING_KICK): with bit 8 there is no kick file, and the ring is looked at without kicks.
func TestRingWithoutKickFileIsPolled(t *testing.T) {
	f := plug(t, entropy(), options{})
	r := f.ring(0)
	r.configure()
	must(t, f.SetVringKick(0, -1))
	must(t, f.SetVringEnable(0, true))
	for range 2 * ringSize {
		r.lay()
		r.returned()
	}
	must(t, f.SetVringKick(0, r.kick)) // a file may come later,
	r.works()
	must(t, f.SetVringKick(0, -1)) // and go again
	r.lay()
	r.returned()
}

// Rule 60★ (vhost-user, "Ring states"): SET_VRING_KICK starts a ring and leaves alone whether it is enabled.
func TestKickFileLeavesEnableAlone(t *testing.T) {
	f := plug(t, entropy(), options{})
	r := f.ring(0)
	r.configure()
	must(t, f.SetVringKick(0, r.kick))
	must(t, f.SetVringKick(0, r.kick))
	r.post()
	if base := r.stop(); base != 0 {
		t.Fatalf("a ring that is not enabled was served up to %d", base)
	}
	must(t, f.SetVringEnable(0, true))
	must(t, f.SetVringKick(0, r.kick))
	r.returned()
	r.stop()
	r.configure()
	must(t, f.SetVringKick(0, r.kick)) // it was not disabled
	r.works()
}

// Rule 61 (vhost-user, SET_VRING_KICK): a new kick file for a running ring takes the place of the old one, which is closed, and no kick is lost between them.
func TestNewKickFileLosesNoKick(t *testing.T) {
	f := plug(t, entropy(), options{})
	r := f.ring(0)
	r.start()
	r.works()
	before := openFiles()
	for i := range 100 {
		next := newEventfd(t)
		r.lay()
		if i%2 == 0 {
			signal(r.kick) // the old one, as the message is sent
		} else {
			signal(next) // before the back-end has it
		}
		must(t, f.SetVringKick(0, next))
		r.kick = next
		r.returned()
		r.works()
	}
	if n := openFiles() - before - 100; n != 0 { // ours
		t.Errorf("%d more files are open", n)
	}
	if base := r.stop(); base != 201 {
		t.Errorf("stopped at %d, want 201: it was started anew", base)
	}
}

// Rule 62★ (QEMU 7.2 behaviour): what was used before SET_VRING_CALL came is signalled when the file comes, at the first start and at every other.
func TestCompletionsBeforeTheCallFileAreSignalledWithIt(t *testing.T) {
	f := plug(t, entropy(), options{})
	r := f.ring(0)
	must(t, f.SetVringNum(0, ringSize))
	must(t, f.SetVringAddr(r.addr()))
	must(t, f.SetVringEnable(0, true))
	for range 3 {
		must(t, f.SetVringKick(0, r.kick))
		r.works()
		must(t, f.SetVringCall(0, r.call))
		f.signalled(r.call)
		r.works()
		f.signalled(r.call)
		r.stop() // which takes the file away
		takeSignal(r.call)
	}
}

// Rule 63 (vhost-user, SET_VRING_CALL): with bit 8 the driver polls: nothing is signalled any more, and the ring goes on.
func TestCallWithoutFileEndsSignals(t *testing.T) {
	f := plug(t, entropy(), options{})
	r := f.ring(0)
	r.start()
	r.works()
	must(t, f.SetVringCall(0, -1))
	takeSignal(r.call)
	for range ringSize {
		r.works()
	}
	if takeSignal(r.call) {
		t.Error("the file that was taken back was signalled")
	}
	must(t, f.SetVringCall(0, r.call))
	r.works()
	f.signalled(r.call)
}

// Rule 64 (vhost-user, SET_VRING_CALL): a new call file, which comes whenever the guest masks an interrupt, is used at once, and the old one no more.
func TestNewCallFileIsUsedAtOnce(t *testing.T) {
	for _, features := range []virtio.Features{0, virtio.FeatureEventIdx} {
		f := plug(t, entropy(), options{features: features})
		r := f.ring(0)
		r.start()
		for range 100 {
			old := r.call
			r.call = newEventfd(t)
			r.usedEvent(r.avail)
			r.lay() // used before, while or after the files change places
			r.ringKick()
			must(t, f.SetVringCall(0, r.call))
			rung := takeSignal(old)
			eventually(t, "a signal on either file", func() bool { return rung || takeSignal(r.call) })
			r.returned()
			r.usedEvent(r.avail)
			r.works()
			f.signalled(r.call)
			if takeSignal(old) {
				t.Fatal("the old file was signalled")
			}
		}
	}
}

// Rule 129★ (QEMU 7.2 and 10 behaviour): QEMU starts a ring with one call file, discards what that was told, and then gives it another: what was used meanwhile is told to the new file too.
func TestWhatTheCallFileBeforeWasToldIsToldAgain(t *testing.T) {
	f := plug(t, entropy(), options{features: virtio.FeatureEventIdx})
	r := f.ring(0)
	r.start()
	r.works()
	f.signalled(r.call) // and the front-end throws it away
	r.call = newEventfd(t)
	must(t, f.SetVringCall(0, r.call))
	f.signalled(r.call)
}

package vhost

import (
	"errors"
	"testing"

	"github.com/vhostd/vhostd/virtio"
)

func TestLogTellsOfWhatWasWritten(t *testing.T) {
	noLeaks(t)
	c, g, _ := running(t, &Server{Device: newFiller(twoRings)})
	logs := newGuest(t, 0)
	g.filled(t)
	ok(t, c.SetLogBase(LogBase{Size: guestPage, Offset: guestPage}, logs.fd))
	bitmap := logs.mem[guestPage : 2*guestPage]
	all := virtio.FeatureProtocol | virtio.FeatureVersion1
	step := func(what string, wantUsed, wantData bool) {
		t.Helper()
		clear(bitmap)
		g.filled(t)
		// GET_VRING_BASE would order it; so does any acknowledged change.
		ok(t, c.SetVringEnable(0, false))
		ok(t, c.SetVringEnable(0, true))
		page := uint64(g.region.GPA)/guestPage + 2
		used, data := bitmap[page/8]>>(page%8)&1 != 0, bitmap[(page+1)/8]>>((page+1)%8)&1 != 0
		if used != wantUsed || data != wantData {
			t.Errorf("%s: used ring %v, data %v", what, used, data)
		}
	}
	step("before LOG_ALL", false, false)
	ok(t, c.SetFeatures(all|virtio.FeatureLogAll))
	step("LOG_ALL", false, true)
	a := g.addr(0)
	a.Flags = VringLog
	ok(t, c.SetVringAddr(a))
	step("LOG_ALL and the ring's flag", true, true)
	ok(t, c.SetLogBase(LogBase{Size: guestPage, Offset: 2 * guestPage}, logs.fd))
	bitmap = logs.mem[2*guestPage : 3*guestPage]
	step("another log", true, true)
	ok(t, c.SetFeatures(all))
	step("LOG_ALL off", false, false)
}

// QEMU does not look at the number it gets back, and would migrate a guest
// whose writes nobody logs.
func TestLogThatCannotBeMappedEndsTheConnection(t *testing.T) {
	for name, l := range map[string]LogBase{
		"past the end of its file": {Size: guestPage, Offset: 4 * guestPage},
		"empty":                    {},
		"negative offset":          {Size: guestPage, Offset: 1 << 63},
		"too large":                {Size: maxLog + 1},
	} {
		t.Run(name, func(t *testing.T) {
			noLeaks(t)
			c, g, ended := running(t, &Server{Device: newFiller(twoRings)})
			_ = c.SetLogBase(l, g.fd)
			if dies(t, ended) == nil {
				t.Error("the session ended without a reason")
			}
		})
	}
}

// QEMU would resume a guest elsewhere that lacks what was written here.
func TestAWriteTheLogHasNoPlaceForEndsTheSession(t *testing.T) {
	noLeaks(t)
	c, g, ended := running(t, &Server{Device: newFiller(twoRings)})
	g.filled(t)
	logs := newGuest(t, 0)
	// A bit each for the first 32 pages; this guest's are 16 to 19.
	ok(t, c.SetLogBase(LogBase{Size: 4}, logs.fd))
	ok(t, c.SetFeatures(virtio.FeatureProtocol|virtio.FeatureVersion1|virtio.FeatureLogAll))
	g.filled(t)
	lives(t, c) // the log is not large, but large enough

	high := newGuest(t, 0x1000000)
	ok(t, c.AddMemReg(high.region, high.fd))
	high.start(t, c, 1, 0)
	high.post()
	if err := dies(t, ended); !errors.Is(err, errShortLog) {
		t.Errorf("it ended because of: %v", err)
	}
}

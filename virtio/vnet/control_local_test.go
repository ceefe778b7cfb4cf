package vnet

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
)

// FuzzControl: whatever is commanded, a refusal changes nothing, and the filter
// decides on any frame.
func FuzzControl(f *testing.F) {
	f.Add(uint8(classRX), uint8(rxPromisc), []byte{0})
	f.Add(uint8(classMAC), uint8(macTable), []byte{1, 0, 0, 0, 2, 0, 0, 0, 0, 5, 0, 0, 0, 0})
	f.Add(uint8(classMAC), uint8(macTable), []byte{0xff, 0xff, 0xff, 0xff, 2, 0})
	f.Add(uint8(classMAC), uint8(macAddr), []byte{2, 0, 0, 0, 0, 7})
	f.Add(uint8(classVLAN), uint8(vlanAdd), []byte{5, 0})
	f.Add(uint8(classMQ), uint8(mqPairs), []byte{2, 0})
	f.Add(uint8(classAnnounce), uint8(announceAck), []byte{})
	f.Fuzz(func(t *testing.T, class, cmd uint8, data []byte) {
		var out atomic.Pointer[filter]
		asked := 0
		c := newLocalControl([6]byte{2}, &out, func(_ context.Context, n int) error { asked = n; return nil })
		before := c.rules
		err := c.command(t.Context(), class, cmd, data)
		switch {
		case err == nil && class == classMQ && (asked != int(data[0])|int(data[1])<<8 || c.rules != before):
			t.Fatalf("%d pairs were asked for: %x", asked, data)
		case err != nil && (!errors.Is(err, ErrRefused) || c.rules != before || out.Load() != nil):
			t.Fatalf("a refusal, %v, changed something", err)
		}
		frame := make([]byte, minFrame+len(data))
		copy(frame[6:], data)
		for _, frame := range [][]byte{frame, frame[:minFrame]} {
			if rules := out.Load(); rules != nil {
				rules.wants(frame)
			}
		}
	})
}

// FuzzConfig: any configuration space gives one that a driver can use.
func FuzzConfig(f *testing.F) {
	f.Add([]byte("\x02\x00\x00\x00\x00\x09\x01\x00\x04\x00\x28\x23\xa8\x61\x00\x00\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var raw [ConfigBytes]byte
		copy(raw[:], b)
		c := ParseConfig(&raw, all)
		if c.MaxPairs < 1 || c.MaxPairs > maxPairs || c.Speed > 1<<31-1 && c.Speed != SpeedUnknown {
			t.Fatalf("%x gives %+v", raw, c)
		}
		if ParseConfig(&raw, 0) != (Config{LinkUp: true, MaxPairs: 1, Speed: SpeedUnknown}) {
			t.Fatal("fields count that no feature vouches for")
		}
	})
}

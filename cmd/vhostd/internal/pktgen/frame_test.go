package pktgen

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestAFrameSaysWhatItIs(t *testing.T) {
	for _, size := range []int{minFrame, 61, 1514, maxFrame} {
		f := template(size, MAC{1}, MAC{2}, 77)
		stamp(f, 65535, 1<<40+5, 12345)
		m, ours := read(f)
		if want := (mark{run: 77, flow: 65535, seq: 1<<40 + 5, at: 12345, size: size}); !ours || m != want {
			t.Errorf("%d bytes: ours %v, %+v, want %+v", size, ours, m, want)
		}
		if checksum(f[etherHeader:][:ipHeader]) != 0 {
			t.Errorf("%d bytes: the IPv4 checksum is wrong", size)
		}
		swap(f)
		if !slices.Equal(f[:12], []byte{2, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0}) {
			t.Errorf("%d bytes: reflected to %x", size, f[:12])
		}
		f[atDst] ^= 1
		if _, ours := read(f); ours {
			t.Error("a frame for another port is taken for ours")
		}
	}
}

// However a frame is cut into pieces, each byte of its filling counts.
func TestEachByteOfTheFillingIsChecked(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := template(rapid.IntRange(minFrame+1, maxFrame).Draw(t, "size"), MAC{}, MAC{}, 1)
		cut := rapid.IntRange(minFrame, len(f)).Draw(t, "cut")
		if !filled(f[:cut], 0) || !filled(f[cut:], cut) {
			t.Fatal("a sound frame is damaged")
		}
		bad := rapid.IntRange(minFrame, len(f)-1).Draw(t, "bad")
		f[bad] ^= 0x40
		if filled(f[:cut], 0) && filled(f[cut:], cut) {
			t.Fatalf("byte %d is wrong, and nobody sees it", bad)
		}
	})
}

func TestSizesAreReadOrRefused(t *testing.T) {
	for text, want := range map[string]Sizes{"60": {60}, "60,1514": {60, 1514}} {
		var s Sizes
		if err := s.UnmarshalText([]byte(text)); err != nil || !slices.Equal(s, want) {
			t.Errorf("%q: %v, %v", text, s, err)
		}
	}
	var mix Sizes
	if err := mix.UnmarshalText([]byte("imix")); err != nil {
		t.Fatal(err)
	}
	count := map[int]int{}
	for _, s := range mix {
		count[s]++
	}
	if len(mix) != 12 || count[60] != 7 || count[590] != 4 || count[1514] != 1 {
		t.Errorf("imix is %v", mix)
	}
	for _, text := range []string{"", "59", "9217", "60:0", "60:4097", "60,", "x", "60:4000,61:4000", "-1"} {
		if err := new(Sizes).UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

// Whatever is lost, doubled and out of order within the window, the tracker says
// what a list of all that was seen says.
func TestTheTrackerCountsWhatHappened(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tr := &tracker{run: 1}
		seen := map[uint64]bool{}
		var next, duplicates, reordered uint64
		for range rapid.IntRange(1, 300).Draw(t, "frames") {
			seq := next + rapid.Uint64Range(0, 40).Draw(t, "ahead")
			if back := rapid.Uint64Range(0, 200).Draw(t, "back"); rapid.Bool().Draw(t, "old") && back < next {
				seq = next - 1 - back
			}
			tr.note(mark{run: 1, flow: 300, seq: seq})
			switch {
			case seen[seq]:
				duplicates++
			case seq < next:
				reordered++
			}
			seen[seq] = true
			next = max(next, seq+1)
		}
		want := tally{unique: uint64(len(seen)), lost: next - uint64(len(seen)), duplicate: duplicates, reordered: reordered}
		if tr.tally != want {
			t.Fatalf("counted %+v, want %+v", tr.tally, want)
		}
	})
}

// Who makes up marks does not keep the tracker: it wraps around with them.
func TestAnyNumberIsTracked(t *testing.T) {
	tr := &tracker{run: 1}
	for _, seq := range []uint64{1<<64 - 3, 1<<64 - 1, 0, 1<<64 - 2, 1 << 63} {
		tr.note(mark{run: 1, flow: 65535, seq: seq})
	}
	if sum := tr.unique + tr.duplicate; sum != 5 {
		t.Errorf("five frames are counted as %+v", tr.tally)
	}
}

func TestARunThatBeginsAnewIsNoLoss(t *testing.T) {
	tr := &tracker{any: true}
	for _, m := range []mark{{run: 1, seq: 1000}, {run: 1, seq: 1001}, {run: 2, seq: 5}, {run: 2, seq: 6}, {run: 2, seq: 6}} {
		tr.note(m)
	}
	if want := (tally{unique: 4, duplicate: 1}); tr.tally != want {
		t.Errorf("counted %+v, want %+v", tr.tally, want)
	}
	own := &tracker{run: 1}
	own.note(mark{run: 2})
	if want := (tally{foreign: 1}); own.tally != want {
		t.Errorf("counted %+v, want %+v", own.tally, want)
	}
}

// However long each burst takes, no more than the rate is allowed; and who is on
// time for all of it gets no less.
func TestThePaceIsKept(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := pace{rate: float64(rapid.IntRange(1, 100_000).Draw(t, "rate"))}
		burst := rapid.IntRange(1, mostBurst).Draw(t, "burst")
		busy := rapid.Bool().Draw(t, "busy")
		now, sent := int64(1), 0
		for now < int64(time.Second) && sent < 2000 {
			n, wait := p.allow(now, burst)
			if n > burst || (n == 0) != (wait > 0) {
				t.Fatalf("allowed %d, wait %v", n, wait)
			}
			sent, now = sent+n, now+int64(wait)
			if n > 0 && busy {
				now += rapid.Int64Range(0, int64(50*time.Millisecond)).Draw(t, "work")
			}
			due := float64(now)/1e9*p.rate + 1
			if float64(sent) > due+0.01 || !busy && float64(sent) < due-float64(burst)-1.01 {
				t.Fatalf("%d frames in %v, %v are due", sent, time.Duration(now), due)
			}
		}
	})
}

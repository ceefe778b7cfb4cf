package memview

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/vhostd/vhostd/memfd"
)

const mib = 1 << 20

// block is one of extents of a MiB.
func block(at uint64, state, owner string, n uint64, a memfd.Amounts) memfd.BlockLayout {
	return memfd.BlockLayout{VA: memfd.Address(1<<40 + at*mib), Offset: at * mib, Size: n * mib, State: state, Owner: owner,
		Shared: a.Shared > 0, Pinned: a.Pinned > 0, Amounts: a}
}

// scene has memory of every kind.
func scene() *memfd.Inspection {
	c := memfd.ClassLayout{Page: 4096, Node: memfd.AnyNode, Extent: mib, VA: 1 << 40, Space: 1 << 30, Mapped: 20 * mib, Blocks: []memfd.BlockLayout{
		block(0, "live", "heap a", 2, memfd.Amounts{Used: 2 * mib}),
		block(2, "live", "heap a", 2, memfd.Amounts{Used: 2 * mib, Shared: 2 * mib}),
		block(4, "live", "heap a", 2, memfd.Amounts{Vacant: 2 * mib}),
		block(6, "live", "heap a", 2, memfd.Amounts{Vacant: 2 * mib, Shared: 2 * mib}),
		block(8, "idle", "", 2, memfd.Amounts{Idle: 2 * mib}),
		block(10, "leaving", "", 2, memfd.Amounts{Moving: 2 * mib}),
		block(12, "quarantined", "heap a", 2, memfd.Amounts{Quarantined: 2 * mib}),
		block(14, "lost", "", 2, memfd.Amounts{Lost: 2 * mib}),
		block(20, "live", "pool p", 2, memfd.Amounts{Used: 2 * mib, Shared: 2 * mib, Pinned: 2 * mib}),
		block(22, memfd.Mixed, "", 2, memfd.Amounts{Used: mib, Vacant: mib / 2, Pinned: mib}),
	}}
	return &memfd.Inspection{Version: 1, PID: 7, Program: "/bin/a<b>&c", Time: time.Unix(0, 0).UTC(), Arenas: []memfd.Layout{{
		Name: "one", Classes: []memfd.ClassLayout{c},
		Heaps: []memfd.HeapLayout{{Owner: "heap \x1b[2Ja", Free: []memfd.FreeList{{Least: 64, Count: 3, Bytes: 200}, {Least: 1 << 20, Count: 1, Bytes: 1 << 20}}}},
	}}}
}

// drawn gives the picture, which is well-formed and not too large.
func drawn(t *testing.T, i *memfd.Inspection) string {
	t.Helper()
	var b bytes.Buffer
	if err := SVG(&b, i); err != nil {
		t.Fatal(err)
	}
	if b.Len() >= mib {
		t.Errorf("the picture has %d bytes", b.Len())
	}
	d := xml.NewDecoder(bytes.NewReader(b.Bytes()))
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return b.String()
		} else if err != nil {
			t.Fatalf("no XML: %v", err)
		}
	}
}

func TestEveryKindOfMemoryIsOnTheMapAndInTheLegend(t *testing.T) {
	picture := drawn(t, scene())
	legend, body, ok := strings.Cut(picture[strings.Index(picture, "</defs>"):], ">Arena one<")
	defs := picture[:strings.Index(picture, "</defs>")]
	if !ok {
		t.Fatal("there is no arena")
	}
	for k := range kinds {
		if !strings.Contains(legend, palette[k].name) || !strings.Contains(legend, palette[k].fill) {
			t.Errorf("%s is not in the legend", palette[k].name)
		}
		// As what cells look like, which are used below.
		if !strings.Contains(defs, palette[k].fill) {
			t.Errorf("%s is not on the map", palette[k].name)
		}
	}
	for _, want := range []string{"pinned", "pinned in part", "address space without memory"} {
		if !strings.Contains(legend, ">"+want+"<") {
			t.Errorf("%s is not in the legend", want)
		}
	}
	if strings.Count(defs, "<circle") < 3 { // a dot and its ground, and the ground of a half
		t.Error("what is pinned has no dot")
	}
	for _, want := range []string{"heap a, shared", "pool p, shared, pinned", "2 MiB from 20 MiB on, live", "one cell is 1 MiB", `stroke="#dfe3e6"`} {
		if !strings.Contains(body, want) {
			t.Errorf("the map does not say %q", want)
		}
	}
	if n := strings.Count(body, "<use "); n != 20 {
		t.Errorf("%d cells are drawn, there are 20 extents with memory", n)
	}
}

// No two kinds are drawn alike, even without their colours.
func TestKindsDifferInMoreThanHue(t *testing.T) {
	gray := func(fill string) float64 {
		var n [3]float64
		for i := range n {
			for _, digit := range fill[1+2*i : 3+2*i] {
				n[i] = n[i]*16 + float64(strings.IndexRune("0123456789abcdef", digit))
			}
		}
		return 0.299*n[0] + 0.587*n[1] + 0.114*n[2]
	}
	for a := range kinds {
		for b := range a {
			if palette[a].over == palette[b].over && math.Abs(gray(palette[a].fill)-gray(palette[b].fill)) < 40 {
				t.Errorf("%s and %s differ in hue only", palette[a].name, palette[b].name)
			}
		}
	}
}

func TestAMillionPagesAreASmallPicture(t *testing.T) {
	i := scene()
	c := &i.Arenas[0].Classes[0]
	c.Extent, c.Space, c.Blocks = 4096, 1<<32, nil
	for at := uint64(0); at < 1<<20; at += 64 {
		b := memfd.BlockLayout{VA: c.VA + memfd.Address(at*4096), Offset: at * 4096, Size: (at%53 + 1) * 4096, State: "live", Owner: strings.Repeat("é", int(at%99))}
		b.Amounts.Used = b.Size * (at % 17) / 17
		b.Amounts.Vacant = b.Size - b.Amounts.Used
		c.Blocks = append(c.Blocks, b)
	}
	for range 40 {
		i.Arenas = append(i.Arenas, i.Arenas[0])
	}
	drawn(t, i)
}

func TestTablesNameEverything(t *testing.T) {
	i := scene()
	l := &i.Arenas[0]
	l.Settings.Bits, l.Settings.Wish = 39, true
	l.Zones = []memfd.ZoneLayout{{Name: "ring"}}
	l.Pools = []memfd.PoolLayout{{Name: "frames"}}
	l.Mirrors = []memfd.MirrorLayout{{Name: "container", Private: true}}
	l.Validators = []memfd.ValidatorLayout{{Name: "budget", Node: 2}}
	l.Waste = []memfd.WasteLayout{{Regions: 8, Needed: 3, Used: mib, Shared: 3 * mib, Waste: 2 * mib}}
	for range 100 {
		l.Zones = append(l.Zones, l.Zones[0])
	}
	var b strings.Builder
	if err := Tables(&b, i); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"0x10000000000", "quarantined", "heap ?[2Ja", "64×3 1M×1", "ring", "frames", "container", "a validator of node 2", "39 address bits", "other nodes serve", "and 61 more", "2 MiB"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is missing in\n%s", want, b.String())
		}
	}
	if strings.Contains(b.String(), "\x1b") {
		t.Error("a name steers the terminal")
	}
}

// Whatever another process answers, there is a picture and a table.
func FuzzViews(f *testing.F) {
	text, err := json.Marshal(scene())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"arenas":[{"classes":[{"extent":18446744073709551615,"space":18446744073709551615,"va":"0x0","blocks":[{"va":"0x0","size":18446744073709551615}]}],"heaps":[{"free_lists":[{"least":0,"count":-1,"bytes":18446744073709551615}]}]}]}`))
	f.Add([]byte(`{"arenas":[{"classes":[{"extent":0,"space":18446744073709551615,"va":"0x1","blocks":[{"va":"0x1","size":1},{"va":"0x0","size":9},{"va":"0xffffffffffffffff","size":1}]}]}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		i := new(memfd.Inspection)
		if json.Unmarshal(text, i) != nil {
			return
		}
		drawn(t, i)
		if err := Tables(io.Discard, i); err != nil {
			t.Fatal(err)
		}
	})
}

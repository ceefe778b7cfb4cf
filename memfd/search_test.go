package memfd

import (
	"testing"

	"pgregory.net/rapid"
)

// taken gives the slots of a class of which some are taken: those from the first
// to the second number of each pair.
func taken(t testing.TB, n int, pairs ...[2]int) (a *Arena, c *class) {
	o := small()
	o.Extent, o.Space = 4096, uint64(n)*4096
	a, err := newArena(linux{}, o)
	if err != nil {
		t.Fatal(err)
	}
	c = a.classes[0]
	for _, p := range pairs {
		a.locked(func() { a.move(part{c, p[0], p[1] - p[0] + 1}, live) })
	}
	return a, c
}

// untake frees all slots, and closes the arena.
func untake(t testing.TB, a *Arena) {
	t.Helper()
	a.locked(func() { a.move(a.classes[0].all(), free) })
	if err := a.Close(); err != nil {
		t.Error(err)
	}
}

// walk finds the lowest run of n free slots, or none, and the longest run, in
// the slowest way.
func walk(c *class, n int) (at, longest int) {
	at = -1
	for from := range c.slots {
		to := from
		for to < len(c.slots) && c.slots[to].state == free {
			to++
		}
		longest = max(longest, to-from)
		if at < 0 && to-from >= n {
			at = from
		}
	}
	return at, longest
}

func TestTheLowestRunIsFound(t *testing.T) {
	for name, test := range map[string]struct {
		slots, n int
		taken    [][2]int
		want     int // -1: none
		longest  int
	}{
		"nothing is taken":             {256, 1, nil, 0, 256},
		"all of it":                    {256, 256, nil, 0, 256},
		"one more than all":            {256, 257, nil, -1, 256},
		"everything is taken":          {256, 1, [][2]int{{0, 255}}, -1, 0},
		"before the first":             {256, 3, [][2]int{{3, 10}}, 0, 245},
		"behind it":                    {256, 4, [][2]int{{3, 10}}, 11, 245},
		"over many words":              {256, 95, [][2]int{{70, 160}}, 161, 95},
		"the last that fits":           {256, 19, [][2]int{{3, 236}}, 237, 19},
		"one more than fits":           {256, 20, [][2]int{{3, 236}}, -1, 19},
		"a hole at the beginning only": {256, 236, [][2]int{{236, 255}}, 0, 236},
		"behind a whole word":          {256, 192, [][2]int{{0, 63}}, 64, 192},
		"behind a word in the middle":  {256, 65, [][2]int{{64, 128}}, 129, 127},
		"up to the border of a word":   {256, 63, [][2]int{{63, 127}}, 0, 128},
		"between two that are taken":   {256, 62, [][2]int{{0, 0}, {61, 61}, {70, 70}}, 71, 185},
		"over the border of a word":    {256, 62, [][2]int{{0, 1}, {64, 64}, {127, 255}}, 2, 62},
		"not in the word of the first": {256, 64, [][2]int{{0, 0}, {64, 64}}, 65, 191},
		"the last slot":                {60, 1, [][2]int{{0, 58}}, 59, 1},
		"behind the last slot":         {60, 1, [][2]int{{0, 59}}, -1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			a, c := taken(t, test.slots, test.taken...)
			defer untake(t, a)
			p, ok := c.find(test.n)
			if ok != (test.want >= 0) || ok && (p.first != test.want || p.n != test.n) {
				t.Errorf("%d slots from %d on, %v, and not from %d", p.n, p.first, ok, test.want)
			}
			if _, longest := c.search(test.slots+1, func(s state) bool { return s == free }); longest != test.longest {
				t.Errorf("the longest run has %d slots, not %d", longest, test.longest)
			}
		})
	}
}

func TestTheSearchForARunFindsWhatAWalkFinds(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		slots := rapid.IntRange(1, 200).Draw(rt, "slots")
		a, c := taken(t, slots)
		defer untake(t, a)
		for range rapid.IntRange(1, 20).Draw(rt, "changes") {
			first := rapid.IntRange(0, slots-1).Draw(rt, "first")
			p := part{c, first, rapid.IntRange(1, slots-first).Draw(rt, "n")}
			to := rapid.SampledFrom([]state{free, free, live, quarantined}).Draw(rt, "state")
			a.locked(func() { a.move(p, to) })
			n := rapid.IntRange(1, slots).Draw(rt, "run")
			at, longest := walk(c, n)
			found, ok := c.find(n)
			if ok != (at >= 0) || ok && found.first != at {
				rt.Fatalf("%d slots: from %d on, %v, and a walk says %d", n, found.first, ok, at)
			}
			if _, got := c.search(slots+1, func(s state) bool { return s == free }); got != longest {
				rt.Fatalf("the longest run has %d slots, and a walk says %d", got, longest)
			}
		}
	})
}

func TestMemoryThatIsIdleGoesBeforeMemoryThatIsLower(t *testing.T) {
	a, c := taken(t, 64, [2]int{0, 3})
	defer untake(t, a)
	a.locked(func() { a.move(part{c, 10, 2}, idle); a.move(part{c, 20, 4}, idle) })
	for n, want := range map[int]int{1: 10, 2: 10, 3: 20, 4: 20, 5: 4} {
		if p, ok := c.find(n); !ok || p.first != want {
			t.Errorf("%d slots are from %d on, not from %d", n, p.first, want)
		}
	}
}

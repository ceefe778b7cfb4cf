package memfd

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"
)

// roundsVar says how often a secondary is killed: more than a few take their time.
const roundsVar = "MEMFD_TEST_ROUNDS"

func rounds(t *testing.T) int {
	t.Helper()
	n := 20
	if testing.Short() {
		n = 5
	}
	if text := os.Getenv(roundsVar); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil {
			t.Fatal(roundsVar, err)
		}
	}
	return n
}

func TestASecondaryThatIsKilledLeavesNothingBehindAndTheOthersWhatTheyHave(t *testing.T) {
	t.Run("system pages", func(t *testing.T) {
		o := small()
		o.Space, o.Linger = 64<<20, time.Millisecond
		murder(t, o)
	})
	t.Run("huge pages", func(t *testing.T) {
		const page = 2 << 20
		hugePages(t, page, 24)
		o := hugeOptions(page)
		o.Space, o.Linger = 64*page, time.Millisecond
		unchanged(t, page, func() {
			t.Run("until all is closed", func(t *testing.T) { murder(t, o) })
		})
	})
}

// murder has a primary and four secondaries allocate, and kills one of them
// meanwhile, again and again.
func murder(t *testing.T, o Options) {
	n := served(t, o, PrimaryOptions{})
	warm := n.attached("warm")
	warm.does("work 1")
	warm.kill()
	n.alone()
	before := countFiles(t)

	h, err := n.a.Heap("primary", HeapOptions{Node: AnyNode})
	if err != nil {
		t.Fatal(err)
	}
	own := &owner{t: t, h: h, random: newRandom(1)}
	var all [4]*pupil
	for i := range all {
		all[i] = n.attached(fmt.Sprint("s", i))
	}
	for round := range rounds(t) {
		victim := own.random.IntN(len(all))
		for _, c := range all {
			c.say("work 16")
		}
		own.work(own.random.IntN(8))
		all[victim].kill()
		fresh := n.spawn(fmt.Sprint("r", round))
		own.work(8)
		for i, c := range all {
			if i != victim {
				c.hears("ok")
			}
		}
		fresh.hears("ok attached")
		all[victim] = fresh
	}
	for _, c := range all {
		c.does("check")
		c.does("close")
		c.kill()
	}
	n.alone()
	own.end()
	if left := n.walked(); left != "" {
		t.Errorf("still mapped: %s", left)
	}
	if left := memfds(t, o.Name); len(left) > 0 {
		t.Errorf("files that are still open: %q", left)
	}
	if after := countFiles(t); after != before {
		t.Errorf("%d open files before, %d after", before, after)
	}
}

// owner allocates in the primary.
type owner struct {
	t      *testing.T
	h      *Heap
	random *rand.Rand
	blocks []patterned
	serial uint64
}

func (o *owner) work(n int) {
	o.t.Helper()
	for range n {
		if len(o.blocks) > 8 || len(o.blocks) > 0 && o.random.IntN(2) == 0 {
			o.free(o.random.IntN(len(o.blocks)))
			continue
		}
		b, err := o.h.Alloc(o.t.Context(), uint64(8+o.random.IntN(1<<18)), 0)
		if _, short := errors.AsType[*ShortageError](err); short {
			continue // others use huge pages too
		}
		if err != nil {
			o.t.Fatal(err)
		}
		o.serial++
		block := patterned{b, o.serial << 24}
		block.fill()
		o.blocks = append(o.blocks, block)
	}
}

func (o *owner) free(i int) {
	o.t.Helper()
	b := o.blocks[i]
	if err := errors.Join(b.check(), o.h.Free(b.Buf)); err != nil {
		o.t.Error(err)
	}
	o.blocks = append(o.blocks[:i], o.blocks[i+1:]...)
}

func (o *owner) end() {
	o.t.Helper()
	for len(o.blocks) > 0 {
		o.free(0)
	}
	if err := o.h.Close(); err != nil {
		o.t.Error(err)
	}
}

// countFiles counts the descriptors of this process.
func countFiles(t testing.TB) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

func newRandom(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }

package memfd

import (
	"errors"
	"testing"

	"github.com/vhostd/vhostd/memtable"
)

// mixed is a fake that prefers small pages, and has one extent of large ones.
func mixed(t *testing.T) *fake {
	return newFake(t, ground{4096, fakeUnit, AnyNode, 8}, ground{fakeUnit, fakeUnit, AnyNode, 1})
}

// large tells whether what lies there is in the large pages of a mixed fake.
func (f *fake) large(va memtable.VA) bool { return numberOf(va)-addressOf(f.mem) >= 8*fakeUnit }

func TestAHintIsFollowedForAsLongAsThereAreSuchPages(t *testing.T) {
	f := mixed(t)
	h := heapOn(f, HeapOptions{Node: AnyNode, Hint: fakeUnit})
	small := lend(t, h, 2*fakeUnit, 0) // more than there is in large pages
	half, rest, more := lend(t, h, fakeUnit/2, 0), lend(t, h, fakeUnit/2, 0), lend(t, h, 64, 0)
	if f.large(small.VA) || !f.large(half.VA) || !f.large(rest.VA) || f.large(more.VA) {
		t.Errorf("they lie at %v, %v, %v and %v", small.VA, half.VA, rest.VA, more.VA)
	}
	// What is vacant in large pages goes before what is vacant in small ones.
	freed(t, h, small, half)
	again := lend(t, h, 64, 0)
	if !f.large(again.VA) {
		t.Errorf("there was room in large pages, and it lies at %v", again.VA)
	}
	freed(t, h, rest, more, again)
}

func TestAPageSizeThatIsNamedIsNoHint(t *testing.T) {
	f := mixed(t)
	h := heapOn(f, HeapOptions{Node: AnyNode, Page: fakeUnit, Hint: 4096})
	only := lend(t, h, fakeUnit, 0)
	_, err := h.Alloc(t.Context(), 64, 0)
	if _, short := errors.AsType[*ShortageError](err); !short || !f.large(only.VA) {
		t.Errorf("%v, and the first lies at %v", err, only.VA)
	}
	freed(t, h, only)
}

func TestAHintThatNoPageHasIsNotMissed(t *testing.T) {
	f := mixed(t)
	h := heapOn(f, HeapOptions{Node: AnyNode, Hint: 1 << 30})
	freed(t, h, lend(t, h, 64, 0))
	p, err := poolOn(t, f, PoolOptions{Size: 64, Count: 1, Hint: 1 << 30})
	if err != nil || f.large(got(t, p.Cache(), 1)[0].VA) {
		t.Error(err)
	}
}

func TestAPoolGrowsByTheHintFirst(t *testing.T) {
	f := mixed(t)
	o := PoolOptions{Size: 64, Count: 1, Hint: fakeUnit}
	p, err := poolOn(t, f, o)
	if err != nil || !f.large(got(t, p.Cache(), 1)[0].VA) {
		t.Errorf("the first pool: %v", err)
	}
	if p, err = poolOn(t, f, o); err != nil || f.large(got(t, p.Cache(), 1)[0].VA) {
		t.Errorf("the second, for which there are no such pages: %v", err)
	}
	// No buffer is made to cross a page for the sake of a hint.
	o = PoolOptions{Size: 5000, Count: 1, Hint: 4096}
	if _, err := poolOn(t, f, o); err == nil {
		t.Error("a buffer crosses pages")
	}
}

func TestAZoneIsMadeThoughTheHintCannotBeHeeded(t *testing.T) {
	a := opened(t, linux{}, small())
	z := zoned(t, a, "z", ZoneOptions{Size: 64, Hint: 1 << 30})
	_, err := a.Zone(t.Context(), "y", ZoneOptions{Size: 64, Page: 1 << 30})
	if _, short := errors.AsType[*ShortageError](err); !short {
		t.Errorf("with the same as a demand: %v", err)
	}
	unzoned(t, z)
}

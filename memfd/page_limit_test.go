package memfd

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Two page sizes of which one is huge need huge pages; two nodes of one page
// size are as good to see that a limit of pages counts all nodes.
func TestTheLimitOfAPageSizeIsInclusiveAndOfAllNodes(t *testing.T) {
	o := small()
	o.Nodes, o.Pages, o.NoHuge = []int{AnyNode, 0}, []uint64{4096}, false
	o.PageLimit = map[uint64]uint64{4096: 64 << 10}
	a := opened(t, linux{}, o)
	first := take(t, a, growth{size: 32 << 10, node: AnyNode, page: 4096})
	second, err := a.grow(t.Context(), growth{size: 32 << 10, node: 0, page: 4096})
	if err != nil {
		giveBack(t, a, first)
		if _, short := errors.AsType[*ShortageError](err); short {
			t.Fatal(err)
		}
		t.Skip("no memory of node 0:", err)
	}
	before := a.Layout()
	_, err = a.grow(t.Context(), growth{size: 1, node: 0})
	short, ok := errors.AsType[*ShortageError](err)
	if !ok || short.Have != 0 {
		t.Errorf("beyond the limit: %v", err)
	}
	if diff := cmp.Diff(before, a.Layout()); diff != "" {
		t.Error("the refusal has changed:\n", diff)
	}
	giveBack(t, a, first)
	giveBack(t, a, take(t, a, growth{size: 32 << 10, node: 0}))
	giveBack(t, a, second)
}

func TestAPageSizeOfLimitZeroIsPassedOver(t *testing.T) {
	o := small()
	o.PageLimit = map[uint64]uint64{1024: 0, 4096: 0}
	a := opened(t, linux{}, o)
	if _, err := a.grow(t.Context(), growth{size: 1, node: AnyNode}); err == nil {
		t.Error("pages were given of which there may be none")
	}
	o.PageLimit = map[uint64]uint64{1024: 4096}
	if _, err := New(o); err == nil {
		t.Error("a limit for pages that are not used was taken")
	}
}

package memfd

import (
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// numa is a machine of several nodes, played on one. Each node has so many pages
// of 4 KiB left.
type numa struct {
	*saboteur
	left  []int
	at    int                // the node of whoever calls
	deaf  bool               // memory comes from the last node, whatever is asked for
	mute  error              // asking where pages lie fails
	files map[[2]int64]int32 // node by file and offset
	lies  map[uint64]int32   // node by address
}

func newNUMA(left ...int) *numa {
	return &numa{saboteur: new(saboteur), left: left, files: make(map[[2]int64]int32), lies: make(map[uint64]int32)}
}

func (k *numa) allocate(fd int, off, n int64, on where) error {
	for end := off + n; off < end; off += 4096 {
		node := on.node
		if k.deaf {
			node = len(k.left) - 1
		}
		if on.wish && k.left[node] == 0 {
			node = slices.IndexFunc(k.left, func(n int) bool { return n > 0 })
		}
		if node < 0 || k.left[node] == 0 {
			return unix.ENOSPC
		}
		k.left[node]--
		k.files[[2]int64{int64(fd), off}] = int32(node)
		if err := k.saboteur.linux.allocate(fd, off, 4096, where{node: AnyNode}); err != nil {
			return err
		}
	}
	return nil
}

func (k *numa) mapFile(at []byte, fd int, off int64) error {
	for i := range int64(len(at)) / 4096 {
		k.lies[addressOf(at)+uint64(i)*4096] = k.files[[2]int64{int64(fd), off + i*4096}]
	}
	return k.saboteur.mapFile(at, fd, off)
}

func (k *numa) nodes(mem []byte, page uint64, nodes []int32) error {
	if err := k.next("nodes"); err != nil || k.mute != nil {
		return errors.Join(err, k.mute)
	}
	for i := range nodes {
		nodes[i] = k.lies[addressOf(mem)+uint64(i)*page]
	}
	return nil
}

func (k *numa) home() (int, error) { return k.at, k.mute }

// onNodes are options for an arena on nodes 0 and 1.
func onNodes(p NodePolicy) Options {
	o := small()
	o.Nodes, o.Policy = []int{0, 1}, p
	return o
}

// placed gives what Places tells, by offset in the first reservation.
func placed(a *Arena) (all []Place) {
	for p := range a.Places() {
		all = append(all, p)
	}
	return all
}

func TestAPageOnTheWrongNodeIsAnErrorAndGoesBack(t *testing.T) {
	k := newNUMA(100, 100)
	k.deaf = true
	a := opened(t, k, onNodes(NodeMust))
	before := look(t, a)
	_, err := a.grow(t.Context(), growth{owner: "b", size: 16 << 10, node: 0})
	astray, ok := errors.AsType[*NodeError](err)
	if !ok || astray.Want != 0 || astray.Is != 1 {
		t.Errorf("growing: %v", err)
	}
	if diff := cmp.Diff(before, look(t, a)); diff != "" {
		t.Error(diff)
	}
	// Whoever takes any node gets the one that tells the truth.
	b := take(t, a, growth{owner: "b", size: 16 << 10, node: AnyNode})
	if b.Node != 1 {
		t.Errorf("the memory is of node %d", b.Node)
	}
	giveBack(t, a, b)
}

func TestAWishFallsOverAndIsReported(t *testing.T) {
	k := newNUMA(6, 100)
	a := opened(t, k, onNodes(NodeWish))
	b := take(t, a, growth{owner: "b", size: 48 << 10, node: 0})
	want := []Place{
		{b.VA, 24 << 10, 4096, 0, 0},
		{b.VA.Add(24 << 10), 24 << 10, 4096, 0, 1},
	}
	if got := placed(a); !slices.Equal(want, got) {
		t.Errorf("places %v, want %v", got, want)
	}
	var nodes []int
	for _, e := range a.Extents() {
		nodes = append(nodes, e.Node)
	}
	if diff := cmp.Diff([]int{0, AnyNode, 1}, nodes); diff != "" {
		t.Error("the nodes of extents, of which one lies on two:", diff)
	}
	giveBack(t, a, b)
}

func TestAnyNodeIsTheCallersFirstAndThenTheOthers(t *testing.T) {
	k := newNUMA(4, 4)
	k.at = 1
	a := opened(t, k, onNodes(NodeMust))
	var got []int
	var all []*block
	for range 2 {
		b := take(t, a, growth{owner: "b", size: 16 << 10, node: AnyNode})
		got, all = append(got, b.Node), append(all, b)
	}
	if diff := cmp.Diff([]int{1, 0}, got); diff != "" {
		t.Error(diff)
	}
	if _, err := a.grow(t.Context(), growth{owner: "b", size: 1, node: AnyNode}); !isShort(err) {
		t.Errorf("growing where no node has memory: %v", err)
	}
	for _, b := range all {
		giveBack(t, a, b)
	}
}

func TestAKernelThatKnowsNoNodesIsNoError(t *testing.T) {
	for _, mute := range []error{unix.ENOSYS, unix.EPERM} {
		for policy, node := range map[NodePolicy]int{NodeMust: 0, NodeWish: AnyNode} {
			k := newNUMA(100, 100)
			k.mute = mute
			a := opened(t, k, onNodes(policy))
			b := take(t, a, growth{owner: "b", size: 32 << 10, node: AnyNode})
			want := []Place{{b.VA, 32 << 10, 4096, 0, AnyNode}}
			if got := placed(a); !slices.Equal(want, got) {
				t.Errorf("%v: places %v, want %v", mute, got, want)
			}
			if e, _ := a.Lookup(b.VA); e.Node != node {
				t.Errorf("%v, policy %v: the extent is on node %d, want %d", mute, policy, e.Node, node)
			}
			giveBack(t, a, b)
		}
	}
}

func TestGrowingOnANodeThatFailsAtAnySystemCallChangesNothing(t *testing.T) {
	for _, policy := range []NodePolicy{NodeMust, NodeWish} {
		k := newNUMA(1000, 1000)
		a := opened(t, k, onNodes(policy))
		held := take(t, a, growth{owner: "held", size: 16 << 10, node: 0})
		before := look(t, a)
		var hits []string
		for i := 1; ; i++ {
			k.arm(unix.ENOMEM, i)
			b, err := a.grow(t.Context(), growth{owner: "b", size: 32 << 10, node: 0})
			failed := k.failed()
			k.arm(nil)
			if len(failed) == 0 {
				if err != nil {
					t.Fatal(err)
				}
				giveBack(t, a, b)
				break
			}
			if hits = append(hits, failed...); !errors.Is(err, unix.ENOMEM) {
				t.Errorf("%v failed, and growing with %v", failed, err)
			}
			if diff := cmp.Diff(before, look(t, a)); diff != "" {
				t.Errorf("after %v failed:\n%s", failed, diff)
			}
		}
		if !slices.Contains(hits, "nodes") {
			t.Errorf("the calls that failed were %q", hits)
		}
		giveBack(t, a, held)
	}
}

func TestTheKernelTellsWhereRealPagesLie(t *testing.T) {
	for _, policy := range []NodePolicy{NodeMust, NodeWish} {
		o := small()
		o.Nodes, o.Policy, o.Space = []int{0}, policy, 8<<20
		a := opened(t, linux{}, o)
		b, err := a.grow(t.Context(), growth{owner: "b", size: 4 << 20, node: 0}) // more than is asked at once
		if err != nil {
			t.Skip("memory of node 0 cannot be had:", err)
		}
		got := placed(a)
		if len(got) == 1 && got[0].Node == AnyNode {
			t.Log("the kernel does not tell where pages lie")
		} else if !slices.Equal(got, []Place{{b.VA, 4 << 20, 4096, 0, 0}}) {
			t.Errorf("places %v", got)
		}
		giveBack(t, a, b)
	}
	const huge = 2 << 20
	hugePages(t, huge, 2)
	o := hugeOptions(huge)
	o.Nodes = []int{0}
	a := opened(t, linux{}, o)
	b := take(t, a, growth{owner: "b", size: 2 * huge, node: 0})
	if got := placed(a); len(got) != 1 || got[0].Size != 2*huge || got[0].Node > 0 {
		t.Errorf("places of huge pages %v", got)
	}
	t.Log(placed(a))
	giveBack(t, a, b)
}

func TestAThreadKnowsItsNode(t *testing.T) {
	if node, err := (linux{}).home(); err != nil || node < 0 {
		t.Errorf("the node of this thread: %d, %v", node, err)
	}
}

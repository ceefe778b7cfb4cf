package memflag

import (
	"errors"
	"flag"
	"io"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"

	"github.com/vhostd/vhostd/dma"
	"github.com/vhostd/vhostd/memfd"
)

// parse reads a command line with both parsers, which must agree.
func parse(t *testing.T, args ...string) (*Flags, error) {
	t.Helper()
	plain, tags := new(Flags), new(Flags)
	fs := flag.NewFlagSet("test", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	plain.Register(fs)
	plainErr := fs.Parse(args)
	parser, err := kong.New(tags, kong.Name("test"), kong.Exit(func(int) { t.Fatal("exit") }))
	if err != nil {
		t.Fatal(err)
	}
	_, tagsErr := parser.Parse(args)
	if (plainErr == nil) != (tagsErr == nil) {
		t.Fatalf("%q: flag says %v, kong says %v", args, plainErr, tagsErr)
	}
	if diff := cmp.Diff(plain, tags); plainErr == nil && diff != "" {
		t.Fatalf("%q: flag and kong (+) read different things:\n%s", args, diff)
	}
	return plain, plainErr
}

func TestSwitchesBecomeOptions(t *testing.T) {
	const any = memfd.AnyNode
	for line, want := range map[string]memfd.Options{
		"":                                  {},
		"--mem-min=64M":                     {Minimum: map[int]uint64{any: 64 << 20}},
		"--mem-min=0":                       {Minimum: map[int]uint64{any: 0}},
		"--mem-min=0:64M,1:0 --numa=0,1":    {Minimum: map[int]uint64{0: 64 << 20, 1: 0}, Nodes: []int{0, 1}},
		"--mem-limit=1:2G --mem-min=0:1K":   {Minimum: map[int]uint64{0: 1024}, Limit: map[int]uint64{1: 2 << 30}, Nodes: []int{0, 1}, Space: 2 << 30},
		"--mem-min=64M --numa=3":            {Minimum: map[int]uint64{3: 64 << 20}, Nodes: []int{3}},
		"--mem-min=64M --mem-limit=64M":     {Minimum: map[int]uint64{any: 64 << 20}, Limit: map[int]uint64{any: 64 << 20}},
		"--mem-limit=16777215T":             {Limit: map[int]uint64{any: 16777215 << 40}, Space: 1 << 40},
		"--numa=0,1 --numa-policy=wish":     {Nodes: []int{0, 1}, Policy: memfd.NodeWish},
		"--mem-min=0:1K --numa-policy=must": {Minimum: map[int]uint64{0: 1024}, Nodes: []int{0}, Policy: memfd.NodeMust},
		"--address-bits=39":                 {AddrBits: 39},
		"--page-sizes=2M,4K":                {Pages: []uint64{2 << 20, 4096}},
		"--no-huge --base-virtaddr=0x100000000 --mem-space=4GiB": {NoHuge: true, Base: 1 << 32, Space: 4 << 30},
		"--no-huge --mem-min=64M":                                {NoHuge: true, Minimum: map[int]uint64{any: 64 << 20}},
		// As EAL's --pagesz-mem is tested: good ones.
		"--page-sizes=2M:64M":                    {Pages: []uint64{2 << 20}, PageLimit: map[uint64]uint64{2 << 20: 64 << 20}},
		"--page-sizes=2M:64M --page-sizes=1G:2G": {Pages: []uint64{2 << 20, 1 << 30}, PageLimit: map[uint64]uint64{2 << 20: 64 << 20, 1 << 30: 2 << 30}},
		"--page-sizes=1K:0":                      {PageLimit: map[uint64]uint64{1024: 0}},
	} {
		f, err := parse(t, strings.Fields(line)...)
		if err != nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		got, err := f.Options()
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", line, err, diff)
		}
	}
}

func TestTheAddressesForDevicesHaveAReason(t *testing.T) {
	for _, mode := range []string{"auto", "va", "pa"} {
		f, err := parse(t, "--iova-mode="+mode)
		if err != nil {
			t.Fatal(err)
		}
		o, err := f.Options()
		if errors.Is(err, dma.ErrHidden) && mode == "pa" {
			t.Log("physical addresses are hidden here:", err)
			continue
		}
		if err != nil || o.IOVAReason == "" || (o.IOVA == memfd.IOVAAsPA) != (o.Resolver != nil) || mode == "va" && o.IOVA != memfd.IOVAAsVA {
			t.Errorf("%s: %v, because %q, with %v: %v", mode, o.IOVA, o.IOVAReason, o.Resolver, err)
		}
	}
}

func TestLegacyModeHasWhoKnowsPhysicalAddresses(t *testing.T) {
	f, err := parse(t, "--legacy-mem", "--mem-min=64M", "--page-sizes=2M")
	if err != nil {
		t.Fatal(err)
	}
	o, err := f.Options()
	if errors.Is(err, dma.ErrHidden) {
		t.Skip("physical addresses are hidden here:", err)
	}
	if err != nil || !o.Legacy || o.Resolver == nil || o.IOVA != memfd.IOVAAsVA {
		t.Errorf("%+v: %v", o, err)
	}
}

func TestWhatCannotBeMeantIsRefused(t *testing.T) {
	for _, one := range []string{
		// As EAL's --pagesz-mem is tested: bad ones.
		"--page-sizes=", "--page-sizes=2M:", "--page-sizes=2M:3M", "--page-sizes=garbage", "--page-sizes=2M:garbage", "--page-sizes=3M:6M",
		"--page-sizes=2M,2M:4M", "--page-sizes=0", "--page-sizes=2M,",
		// And --numa-mem.
		"--mem-min=", "--mem-min=0:64M,,1:64M", "--mem-min=0:64M,", "--mem-min=0:64M,1:12x", "--mem-min=64", "--mem-min=64M,0:64M",
		"--mem-min=0:64M,0:32M", "--mem-min=1024:64M", "--mem-min=-1:64M", "--mem-min=64M,32M", "--mem-limit=99999999T", "--mem-limit=-1M",
		"--numa=0,0", "--numa=x", "--numa=-1", "--numa-policy=maybe", "--address-bits=x", "--iova-mode=dc", "--base-virtaddr=xyz", "--mem-space=1Q",
	} {
		if _, err := parse(t, one); err == nil {
			t.Errorf("%s was taken", one)
		}
	}
}

func TestConflictsAreRefusedWithTheReason(t *testing.T) {
	for line, want := range map[string]string{
		"--no-huge --page-sizes=2M:64M":    "--no-huge and --page-sizes",
		"--mem-min=64M --numa=0,1":         "--mem-min and --numa: say how much is of which node",
		"--mem-min=2:64M --numa=0,1":       "node 2 is in the first",
		"--mem-limit=2:64M --numa=0,1":     "--mem-limit and --numa: node 2",
		"--mem-min=64M --mem-limit=0:64M":  "--mem-min and --mem-limit: one is for NUMA nodes",
		"--numa-policy=wish":               "--numa-policy and --numa: without nodes",
		"--mem-min=64M --mem-limit=32M":    "64M is above 32M",
		"--legacy-mem --mem-limit=64M":     "--legacy-mem and --mem-limit: nothing grows",
		"--legacy-mem --page-sizes=2M:64M": "--legacy-mem and a limit in --page-sizes",
		"--legacy-mem --no-huge":           "--legacy-mem and --no-huge",
		"--legacy-mem --mem-space=1G":      "--legacy-mem and --mem-space",
		"--mem-min=64M --mem-space=32M":    "64M need more than 32M",
	} {
		f, err := parse(t, strings.Fields(line)...)
		if err != nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		_, err = f.Options()
		if _, ok := errors.AsType[*ConflictError](err); !ok || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want a conflict about %q", line, err, want)
		}
	}
	f, _ := parse(t, "--no-huge", "--page-sizes=2M", "--mem-min=2M", "--mem-limit=1M")
	if _, err := f.Options(); strings.Count(err.Error(), " and --") != 2 {
		t.Errorf("of two conflicts not both are told: %v", err)
	}
}

// What is read is written and read as the same, and nothing panics.
func FuzzSwitches(f *testing.F) {
	for _, seed := range []string{"64M", "0:64M,1:32M", "2M:64M,4K", "0,1", "0x100000000", "18446744073709551615B", "16777216T", "0", ","} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		check(t, text, new(Size), new(Size))
		check(t, text, new(NodeSizes), new(NodeSizes))
		check(t, text, new(Nodes), new(Nodes))
		check(t, text, new(Pages), new(Pages))
		check(t, text, new(Address), new(Address))
		check(t, text, new(IOVA), new(IOVA))
		check(t, text, new(Policy), new(Policy))
	})
}

type value interface {
	MarshalText() ([]byte, error)
	UnmarshalText([]byte) error
}

func check(t *testing.T, text string, one, two value) {
	if one.UnmarshalText([]byte(text)) != nil {
		return
	}
	again, err := one.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	if err := two.UnmarshalText(again); err != nil {
		t.Fatalf("%T: %q was written as %q: %v", one, text, again, err)
	}
	if diff := cmp.Diff(one, two); diff != "" {
		t.Errorf("%T: %q was written as %q:\n%s", one, text, again, diff)
	}
}

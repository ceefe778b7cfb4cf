package dma

import (
	"errors"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/vhostd/vhostd/memtable"
)

func TestTheModeIsWhatWishMachineAndRightsAllow(t *testing.T) {
	seen := func() error { return nil }
	hidden := func() error { return ErrHidden }
	groups := fstest.MapFS{
		"kernel/iommu_groups/0/devices": {Mode: fs.ModeDir},
		"kernel/iommu_groups/7/name":    {Data: []byte("smmu\n")},
	}
	madeUp := fstest.MapFS{"kernel/iommu_groups/0/name": {Data: []byte("vfio-noiommu\n")}}
	empty := fstest.MapFS{"kernel/iommu_groups": {Mode: fs.ModeDir}}
	none := fstest.MapFS{}
	for _, test := range []struct {
		wish     Wish
		sys      fs.FS
		physical func() error
		mode     memtable.IOVAMode
		reason   string
	}{
		{WishAuto, none, seen, memtable.IOVAAsPA, "no IOMMU"},
		{WishAuto, empty, seen, memtable.IOVAAsPA, "no IOMMU"},
		{WishAuto, madeUp, seen, memtable.IOVAAsPA, "no IOMMU"},
		{WishAuto, groups, seen, memtable.IOVAAsVA, "2 groups"},
		{WishAuto, none, hidden, memtable.IOVAAsVA, "CAP_SYS_ADMIN"},
		{WishAuto, groups, hidden, memtable.IOVAAsVA, "CAP_SYS_ADMIN"},
		{WishVA, none, seen, memtable.IOVAAsVA, "asked for"},
		{WishVA, none, hidden, memtable.IOVAAsVA, "asked for"},
		{WishPA, groups, seen, memtable.IOVAAsPA, "asked for"},
	} {
		mode, reason, err := DetectMode(test.wish, Machine{Sys: test.sys, Physical: test.physical})
		if err != nil || mode != test.mode || !strings.Contains(reason, test.reason) {
			t.Errorf("%+v: mode %v: %s, %v", test, mode, reason, err)
		}
	}
	_, _, err := DetectMode(WishPA, Machine{Sys: none, Physical: hidden})
	if !errors.Is(err, ErrHidden) || !strings.Contains(err.Error(), "CAP_SYS_ADMIN") {
		t.Errorf("physical addresses without the right to see them: %v", err)
	}
}

type unreadable struct{}

func (unreadable) Open(string) (fs.File, error) { return nil, fs.ErrPermission }

func TestWhereNothingCanBeSeenTheModeIsNotGuessed(t *testing.T) {
	if mode, reason, err := DetectMode(WishAuto, Machine{Sys: unreadable{}, Physical: func() error { return nil }}); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("mode %v: %s, %v", mode, reason, err)
	}
}

func TestWishesAreReadAsOperatorsWriteThem(t *testing.T) {
	for s, want := range map[string]Wish{"": WishAuto, "auto": WishAuto, "PA": WishPA, "va": WishVA} {
		if got, err := ParseWish(s); err != nil || got != want {
			t.Errorf("%q: %v, %v", s, got, err)
		}
	}
	if _, err := ParseWish("phys"); err == nil {
		t.Error("phys is no mode")
	}
}

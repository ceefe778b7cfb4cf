package dma

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/vhostd/vhostd/memtable"
)

// Wish is what an operator says about the IOVA mode.
type Wish int

const (
	WishAuto Wish = iota // whatever fits the machine
	WishVA
	WishPA
)

var wishes = map[string]Wish{"": WishAuto, "auto": WishAuto, "va": WishVA, "pa": WishPA}

// ParseWish reads "auto" (or nothing), "va" or "pa".
func ParseWish(s string) (Wish, error) {
	w, ok := wishes[strings.ToLower(s)]
	if !ok {
		return 0, fmt.Errorf("IOVA mode %q: use auto, va or pa", s)
	}
	return w, nil
}

// Machine is what DetectMode looks at. The zero Machine is the one we run on.
type Machine struct {
	Sys      fs.FS        // what is below /sys; nil: /sys
	Physical func() error // whether physical addresses can be had, and if not why; nil: the pagemap is tried
}

// DetectMode says which addresses devices are to be told, and why, in a sentence
// for operators. A wish is followed. Without one it is the virtual address where
// physical ones cannot be had, or where an IOMMU translates; else the physical
// address. To wish for physical addresses that cannot be had is an error.
func DetectMode(wish Wish, m Machine) (mode memtable.IOVAMode, reason string, err error) {
	if m.Sys == nil {
		m.Sys = os.DirFS("/sys")
	}
	if m.Physical == nil {
		m.Physical = tryPagemap
	}
	if wish == WishVA {
		return memtable.IOVAAsVA, "IOVA as VA, because it was asked for", nil
	}
	hidden := m.Physical()
	switch {
	case wish == WishPA && hidden != nil:
		return 0, "", fmt.Errorf("IOVA as PA was asked for: %w", hidden)
	case wish == WishPA:
		return memtable.IOVAAsPA, "IOVA as PA, because it was asked for", nil
	case hidden != nil:
		return memtable.IOVAAsVA, fmt.Sprintf("IOVA as VA, because this process has no access to physical addresses (%v)", brief(hidden)), nil
	}
	switch groups, err := iommuGroups(m.Sys); {
	case err != nil:
		return 0, "", fmt.Errorf("whether there is an IOMMU cannot be seen: %w: say which mode to use", err)
	case groups > 0:
		return memtable.IOVAAsVA, fmt.Sprintf("IOVA as VA, because an IOMMU translates (%d groups of devices)", groups), nil
	}
	return memtable.IOVAAsPA, "IOVA as PA, because no IOMMU is there to translate", nil
}

// brief is what operators need to know of an error in a sentence.
func brief(err error) string {
	if errors.Is(err, ErrHidden) {
		return "it lacks CAP_SYS_ADMIN"
	}
	return err.Error()
}

// groupsDir has a directory for each group of devices that an IOMMU keeps apart.
const groupsDir = "kernel/iommu_groups"

// noIOMMU is the name of the groups that VFIO makes up for devices without an
// IOMMU: nothing translates for them.
const noIOMMU = "vfio-noiommu"

// iommuGroups counts the groups. Kernels without IOMMU support have none.
func iommuGroups(sys fs.FS) (n int, err error) {
	entries, err := fs.ReadDir(sys, groupsDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	for _, e := range entries {
		name, err := fs.ReadFile(sys, path.Join(groupsDir, e.Name(), "name"))
		if err != nil || strings.TrimSpace(string(name)) != noIOMMU {
			n++
		}
	}
	return n, nil
}

// tryPagemap resolves a byte of ours, which is present.
func tryPagemap() error {
	p, err := OpenPagemap()
	if err != nil {
		return err
	}
	defer p.Close()
	mem := []byte{1}
	w := memtable.Wrap(mem, memtable.FileID{}, 0, nil)
	defer w.Close()
	_, _, err = p.Resolve(w.VA(), 1)
	return err
}

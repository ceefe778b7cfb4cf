package qemutest

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
)

// guestModules are what a guest of ours needs, without what they depend on.
var guestModules = []string{"virtio_pci", "virtio_console", "virtio_net", "virtio_rng", "virtio_blk"}

// loadOrder lists the files of modules with all they depend on, dependencies
// first. A package has no modules.dep, that is made when it is installed, but
// each module says what it needs.
func loadOrder(dir string, names []string) ([]string, error) {
	files, err := moduleFiles(dir)
	if err != nil {
		return nil, err
	}
	var (
		order []string
		known = make(map[string]bool)
		visit func(name, by string) error
	)
	visit = func(name, by string) error {
		name = moduleName(name)
		if known[name] {
			return nil
		}
		known[name] = true
		file, ok := files[name]
		if !ok {
			return fmt.Errorf("no module %s (%s) below %s", name, by, dir)
		}
		needs, err := moduleNeeds(file)
		if err != nil {
			return err
		}
		for _, n := range needs {
			if err := visit(n, "needed by "+name); err != nil {
				return err
			}
		}
		order = append(order, file)
		return nil
	}
	for _, name := range names {
		if err := visit(name, "wanted"); err != nil {
			return nil, err
		}
	}
	return order, nil
}

// moduleName is the name the kernel uses: file names may have - for _.
func moduleName(s string) string { return strings.ReplaceAll(s, "-", "_") }

func moduleFiles(dir string) (map[string]string, error) {
	files := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if name, ok := strings.CutSuffix(filepath.Base(path), ".ko"); ok && err == nil && d.Type().IsRegular() {
			files[moduleName(name)] = path
		}
		return err
	})
	return files, err
}

// moduleNeeds reads the line "depends=a,b" of a module's section .modinfo.
func moduleNeeds(file string) ([]string, error) {
	f, err := elf.Open(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	defer f.Close()
	section := f.Section(".modinfo")
	if section == nil {
		return nil, fmt.Errorf("%s: is not a kernel module", file)
	}
	info, err := section.Data()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	for entry := range bytes.SplitSeq(info, []byte{0}) {
		if list, ok := bytes.CutPrefix(entry, []byte("depends=")); ok && len(list) > 0 {
			return strings.Split(string(list), ","), nil
		}
	}
	return nil, nil
}

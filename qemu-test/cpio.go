package qemutest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/u-root/u-root/pkg/cpio"
)

// initramfs is what a guest boots from: our init and the modules.
type initramfs struct {
	path    string
	modules string // for the kernel's command line: files in load order
}

// build makes a static program of a package of ours.
func build(ctx context.Context, pkg, out string) error {
	root, err := repository()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-o", out, pkg)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if words, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build %s: %w\n%s", pkg, err, words)
	}
	return nil
}

// makeInitramfs writes an initramfs into dir.
func makeInitramfs(ctx context.Context, dir string, k *Kernel) (*initramfs, error) {
	order, err := loadOrder(k.Modules, guestModules)
	if err != nil {
		return nil, err
	}
	program := filepath.Join(dir, "init")
	if err := build(ctx, "./qemu-test/guest", program); err != nil {
		return nil, err
	}
	init, err := os.ReadFile(program)
	if err != nil {
		return nil, err
	}
	records := []cpio.Record{
		cpio.Directory("dev", 0o755),
		// Without it process 1 has no standard error until it has mounted /dev.
		cpio.CharDev("dev/console", 0o600, 5, 1),
		cpio.Directory("modules", 0o755),
		cpio.StaticFile("init", string(init), 0o755),
	}
	var names []string
	for _, file := range order {
		content, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		name := filepath.Base(file)
		names = append(names, name)
		records = append(records, cpio.StaticFile("modules/"+name, string(content), 0o644))
	}
	path := filepath.Join(dir, "initramfs.cpio")
	if err := writeArchive(path, records); err != nil {
		return nil, fmt.Errorf("write %s: %w", path, err)
	}
	return &initramfs{path, strings.Join(names, ",")}, nil
}

func writeArchive(path string, records []cpio.Record) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	w := cpio.Newc.Writer(f)
	if err := cpio.WriteRecords(w, records); err != nil {
		return err
	}
	if err := cpio.WriteTrailer(w); err != nil {
		return err
	}
	return f.Close()
}

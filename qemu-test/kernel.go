package qemutest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/pierrec/lz4/v4"
)

// Kernel is an unpacked kernel package.
type Kernel struct {
	Image   string // vmlinux, which QEMU starts by its PVH entry
	Modules string // folder below which the modules lie
}

// FetchKernel gets Debian's cloud kernel, from the cache if it is there.
func FetchKernel(ctx context.Context) (*Kernel, error) {
	dir, err := cached("kernel", func(dir string) error { return makeKernel(ctx, dir) })
	if err != nil {
		return nil, fmt.Errorf("get the guests' kernel: %w", err)
	}
	return &Kernel{filepath.Join(dir, "vmlinux"), filepath.Join(dir, "modules")}, nil
}

func makeKernel(ctx context.Context, dir string) error {
	work := filepath.Join(dir, "work")
	a, err := newApt(work)
	if err != nil {
		return err
	}
	name, err := a.kernelPackage(ctx)
	if err != nil {
		return err
	}
	if err := a.fetch(ctx, work, name); err != nil {
		return err
	}
	images, err := filepath.Glob(filepath.Join(work, "boot", "vmlinuz-*"))
	if err != nil || len(images) != 1 {
		return fmt.Errorf("%s: %d kernels in the package, not one", name, len(images))
	}
	compressed, err := os.ReadFile(images[0])
	if err != nil {
		return err
	}
	vmlinux, err := unpackImage(compressed)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "vmlinux"), vmlinux, 0o644); err != nil {
		return err
	}
	modules := filepath.Join(work, "lib", "modules")
	if !there(modules) {
		modules = filepath.Join(work, "usr", "lib", "modules") // newer packages
	}
	if err := os.Rename(modules, filepath.Join(dir, "modules")); err != nil {
		return err
	}
	return a.remove()
}

// Fields of the header of a bzImage (the x86 boot protocol, "The Real-Mode
// Kernel Header").
const (
	setupSectors  = 0x1f1 // byte: 512-byte sectors of the real-mode part, less one
	headerMagic   = 0x202 // "HdrS"
	payloadOffset = 0x248 // u32: from the start of the protected-mode part
	payloadLength = 0x24c // u32
	headerEnd     = 0x250
)

// unpackImage takes the ELF kernel out of a bzImage whose payload is LZ4. QEMU
// starts it half a second sooner than it starts the bzImage.
func unpackImage(image []byte) ([]byte, error) {
	if len(image) < headerEnd || !bytes.Equal(image[headerMagic:headerMagic+4], []byte("HdrS")) {
		return nil, errors.New("is not a bzImage")
	}
	u32 := func(at int) uint64 { return uint64(binary.LittleEndian.Uint32(image[at:])) }
	start := (uint64(image[setupSectors])+1)*512 + u32(payloadOffset)
	size := u32(payloadLength)
	// The last four bytes are the unpacked size, not part of the frame.
	if size < 8 || start > uint64(len(image)) || size > uint64(len(image))-start {
		return nil, errors.New("the bzImage is cut short")
	}
	vmlinux, err := io.ReadAll(lz4.NewReader(bytes.NewReader(image[start : start+size-4])))
	if err != nil {
		return nil, fmt.Errorf("unpack the kernel (LZ4 is expected): %w", err)
	}
	if !bytes.HasPrefix(vmlinux, []byte("\x7fELF")) {
		return nil, errors.New("the bzImage's payload is not an ELF file")
	}
	return vmlinux, nil
}

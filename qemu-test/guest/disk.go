package main

import (
	"crypto/sha256"
	"io"
	"os"
	"path/filepath"

	"github.com/vhostd/vhostd/qemu-test/guestapi"
	"golang.org/x/sys/unix"
)

func openDisk(r guestapi.DiskRange) (*os.File, error) {
	return os.OpenFile("/dev/"+filepath.Base(r.Name), os.O_RDWR, 0)
}

func diskWrite(a guestapi.DiskWrite) (nothing, error) {
	f, err := openDisk(a.DiskRange)
	if err != nil {
		return nothing{}, err
	}
	defer f.Close()
	w := io.NewOffsetWriter(f, a.Offset)
	if _, err := io.Copy(w, io.LimitReader(guestapi.NewNoise(a.Seed), a.Bytes)); err != nil {
		return nothing{}, err
	}
	return nothing{}, f.Sync()
}

// diskZero has the kernel zero a part of the disk, which asks the device to.
func diskZero(a guestapi.DiskRange) (nothing, error) {
	f, err := openDisk(a)
	if err != nil {
		return nothing{}, err
	}
	defer f.Close()
	return nothing{}, unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_ZERO_RANGE|unix.FALLOC_FL_KEEP_SIZE, a.Offset, a.Bytes)
}

func diskSum(a guestapi.DiskRange) (guestapi.Bytes, error) {
	f, err := openDisk(a)
	if err != nil {
		return guestapi.Bytes{}, err
	}
	defer f.Close()
	// What is clean leaves the page cache, so that the device is asked.
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		return guestapi.Bytes{}, err
	}
	sum := sha256.New()
	_, err = io.Copy(sum, io.NewSectionReader(f, a.Offset, a.Bytes))
	return guestapi.Bytes{Data: sum.Sum(nil)}, err
}

package memfd

import (
	"errors"
	"fmt"
	"math/bits"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/memtable"
)

// file is the memory of one page size and node. Page i lies at i times the page
// size. A file without pages does not exist.
type file struct {
	fd int
	id memtable.FileID
}

// Seals: nobody may truncate the file under us; and no peer, who has the same
// rights to it as we, may add the seals that would keep us from growing it.
const seals = unix.F_SEAL_SHRINK | unix.F_SEAL_SEAL

// openFile makes a file. Kernels before 6.3 do not know MFD_NOEXEC_SEAL, and
// those before 4.16 do not seal huge pages: then it is done without.
func openFile(k kernel, name string, page uint64, huge bool) (*file, error) {
	flags := unix.MFD_CLOEXEC
	if huge {
		flags |= unix.MFD_HUGETLB | bits.TrailingZeros64(page)<<unix.MFD_HUGE_SHIFT
	}
	var fd int
	var err error
	for _, with := range []int{unix.MFD_ALLOW_SEALING | unix.MFD_NOEXEC_SEAL, unix.MFD_ALLOW_SEALING, 0} {
		fd, err = k.create(name, flags|with)
		if err == nil && with != 0 {
			err = k.seal(fd, seals)
		} else if errors.Is(err, unix.EINVAL) {
			continue
		}
		break
	}
	f := &file{fd: fd}
	if err == nil {
		f.id, err = k.identify(fd)
	}
	if err != nil {
		if fd >= 0 {
			_ = k.close(fd)
		}
		return nil, fmt.Errorf("a file for pages of %s: %w", bytesText(page), err)
	}
	return f, nil
}

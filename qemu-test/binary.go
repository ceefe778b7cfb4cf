package qemutest

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
)

// QEMU is an emulator to run.
type QEMU struct {
	Path         string
	Data         []string // -L: where its firmware lies; none: where it looks itself
	Major, Minor int
}

func (q *QEMU) String() string { return fmt.Sprintf("QEMU %d.%d", q.Major, q.Minor) }

// needsINTx says that the guests' network devices must not have MSI-X vectors:
// under TCG this QEMU crashes as vhost-user-net starts with them.
func (q *QEMU) needsINTx() bool { return q.Major < 8 }

// reconnect is the chardev's option to try again, soon.
func (q *QEMU) reconnect() string {
	if q.Major > 9 || q.Major == 9 && q.Minor >= 2 {
		return "reconnect-ms=200"
	}
	return "reconnect=1"
}

const emulator = "qemu-system-x86_64"

// InstalledQEMU is the machine's own emulator.
var InstalledQEMU = sync.OnceValues(func() (*QEMU, error) {
	path, err := exec.LookPath(emulator)
	if err != nil {
		return nil, errors.New("no " + emulator + " here: install qemu-system-x86")
	}
	return probe(&QEMU{Path: path})
})

// NewestQEMU is the installed emulator, or, if that is an old one, the one of
// the release's backports, unpacked into the cache. It needs the libraries the
// installed one brought.
func NewestQEMU(ctx context.Context) (*QEMU, error) {
	installed, err := InstalledQEMU()
	if err != nil || !installed.needsINTx() {
		return installed, err
	}
	dir, err := cached("qemu-backports", func(dir string) error { return unpackBackports(ctx, dir) })
	if err != nil {
		return nil, fmt.Errorf("get QEMU from the backports: %w", err)
	}
	share := filepath.Join(dir, "usr", "share")
	return probe(&QEMU{
		Path: filepath.Join(dir, "usr", "bin", emulator),
		Data: []string{filepath.Join(share, "qemu"), filepath.Join(share, "seabios")},
	})
}

func unpackBackports(ctx context.Context, dir string) error {
	line, suite, err := backports()
	if err != nil {
		return err
	}
	work := filepath.Join(dir, "work")
	a, err := newApt(work)
	if err != nil {
		return err
	}
	if err := a.with(ctx, line); err != nil {
		return err
	}
	a.options = append(a.options, "-t", suite)
	if err := a.fetch(ctx, dir, "qemu-system-x86", "qemu-system-common", "qemu-system-data", "seabios"); err != nil {
		return err
	}
	return a.remove()
}

var versionWords = regexp.MustCompile(`QEMU emulator version (\d+)\.(\d+)`)

// probe asks an emulator for its version: it shows that it runs at all.
func probe(q *QEMU) (*QEMU, error) {
	out, err := exec.Command(q.Path, "--version").CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%s does not run: %w: %s", q.Path, err, strings.TrimSpace(string(out)))
	}
	m := versionWords.FindSubmatch(out)
	if m == nil {
		return nil, fmt.Errorf("%s --version says %q", q.Path, out)
	}
	if q.Major, err = strconv.Atoi(string(m[1])); err != nil {
		return nil, err
	}
	q.Minor, err = strconv.Atoi(string(m[2]))
	return q, err
}

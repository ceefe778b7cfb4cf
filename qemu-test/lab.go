package qemutest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Lab is one run: a folder, and what runs in it.
type Lab struct {
	Dir string // sockets, consoles and logs; its path is short, as sockets' must be

	kernel    *Kernel
	initramfs *initramfs
	kvm       bool

	mu       sync.Mutex // guests may be booted at the same time
	machines []*Machine
	programs []*Program
}

// NewLab gets what guests need and makes a folder for a run.
func NewLab(ctx context.Context) (*Lab, error) {
	k, err := FetchKernel(ctx)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "vhostd-lab-")
	if err != nil {
		return nil, err
	}
	l := &Lab{Dir: dir, kernel: k}
	if l.initramfs, err = makeInitramfs(ctx, dir, k); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	l.kvm = l.kvmWorks(ctx)
	return l, nil
}

// kvmTime bounds the boot of the guest that shows whether KVM works.
const kvmTime = 20 * time.Second

// kvmWorks boots a guest under KVM: the device node alone says little where
// virtual machines are nested.
func (l *Lab) kvmWorks(ctx context.Context) bool {
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return false
	}
	f.Close()
	q, err := InstalledQEMU()
	if err != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, kvmTime)
	defer cancel()
	m, err := l.boot(ctx, Guest{Name: "kvm-probe", QEMU: q}, true)
	if err != nil {
		return false
	}
	m.Kill()
	return true
}

// Socket is a path in the lab's folder.
func (l *Lab) Socket(name string) string { return filepath.Join(l.Dir, name+".sock") }

// Close ends all that runs and removes the folder.
func (l *Lab) Close() error {
	l.stop()
	return os.RemoveAll(l.Dir)
}

// watch gives a context that ends when one of the lab's programs does: what
// waits for a guest must not wait in vain.
func (l *Lab) watch(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.programs {
		exited := p.exited
		go func() {
			select {
			case <-exited:
				cancel(fmt.Errorf("%s has ended\n%s", p.name, p.lastWords()))
			case <-ctx.Done():
			}
		}()
	}
	return ctx, func() { cancel(nil) }
}

func (l *Lab) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range l.machines {
		m.Kill()
	}
	for _, p := range l.programs {
		p.Kill()
	}
}

// kept are the files that tell what happened.
var kept = []string{".console", ".qemu", ".log", ".pcap"}

// Keep ends all that runs, so that nothing is half written, and copies consoles
// and logs to another folder.
func (l *Lab) Keep(to string) error {
	l.stop()
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	entries, err := os.ReadDir(l.Dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		for _, end := range kept {
			if strings.HasSuffix(e.Name(), end) {
				err = errors.Join(err, copyFile(filepath.Join(to, e.Name()), filepath.Join(l.Dir, e.Name())))
			}
		}
	}
	return err
}

// KeepIn copies consoles and logs below build/artifacts, and says where.
func (l *Lab) KeepIn(name string) (string, error) {
	root, err := repository()
	if err != nil {
		return "", err
	}
	to := filepath.Join(root, "build", "artifacts", name)
	if err := os.RemoveAll(to); err != nil {
		return "", err
	}
	return to, l.Keep(to)
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		return errors.Join(fmt.Errorf("keep %s: %w", from, err), out.Close())
	}
	return out.Close()
}

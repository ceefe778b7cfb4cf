package memfd

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// smallCgroup makes a cgroup below ours with a limit of memory, in one version
// of cgroups.
func smallCgroup(t *testing.T, version *hierarchy, limit int) (dir string) {
	t.Helper()
	all, err := hierarchies(linux{})
	if err != nil {
		t.Skip("no cgroups:", err)
	}
	for _, h := range all {
		if h.usage != version.usage {
			continue
		}
		dir := filepath.Join(h.mount, h.group, fmt.Sprintf("memfd-test-%d", os.Getpid()))
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Skip("no cgroup can be made here:", err)
		}
		t.Cleanup(func() {
			if err := os.Remove(dir); err != nil {
				t.Error("removing the cgroup:", err)
			}
		})
		if err := os.WriteFile(filepath.Join(dir, h.limits[0]), fmt.Append(nil, limit), 0); err != nil {
			t.Skip("the cgroup has no limit of memory:", err)
		}
		return dir
	}
	t.Skip("no hierarchy of this version is mounted")
	return ""
}

// eaters take memory by steps of so many bytes.
var eaters = map[string]func(t *testing.T, a *Arena) (eat func() error, size uint64){
	"arena": func(t *testing.T, a *Arena) (func() error, uint64) {
		return func() error {
			_, err := a.grow(t.Context(), growth{owner: "all", size: 8 << 20, node: AnyNode})
			return err
		}, 8 << 20
	},
	"heap": func(t *testing.T, a *Arena) (func() error, uint64) {
		h, err := a.Heap("all", HeapOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return func() error {
			b, err := h.AllocZero(t.Context(), 2<<20, 0)
			if err == nil {
				dirty(b.VA, uint64(b.Cap))
			}
			return err
		}, 2 << 20
	},
	"zone": func(t *testing.T, a *Arena) (func() error, uint64) {
		n := 0
		return func() error {
			n++
			_, err := a.Zone(t.Context(), fmt.Sprint(n), ZoneOptions{Size: 2 << 20})
			return err
		}, 2 << 20
	},
	"pool": func(t *testing.T, a *Arena) (func() error, uint64) {
		p, err := a.Pool(t.Context(), "all", PoolOptions{Size: 4096, Count: 1})
		if err != nil {
			t.Fatal(err)
		}
		return func() error { return p.Grow(t.Context(), 512) }, 2 << 20
	},
}

// TestInASmallCgroupMemoryEndsInAnError would end in a kill if it did not hold.
func TestInASmallCgroupMemoryEndsInAnError(t *testing.T) {
	if who, ok := strings.CutPrefix(os.Getenv(childVar), "cgroup "); ok {
		eatUntilShort(t, who)
		return
	}
	for name, version := range map[string]*hierarchy{"v1": &version1, "v2": &version2} {
		t.Run(name, func(t *testing.T) {
			dir := smallCgroup(t, version, 256<<20)
			for who := range eaters {
				if testing.Short() && who != "heap" {
					continue
				}
				t.Run(who, func(t *testing.T) { inCgroup(t, dir, "cgroup "+who) })
			}
		})
	}
}

// inCgroup runs the child within a cgroup.
func inCgroup(t *testing.T, dir, as string) {
	cmd := child(t, "^TestInASmallCgroupMemoryEndsInAnError$")
	cmd.Env = append(cmd.Env, childVar+"="+as)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// It begins when its input ends, and by then it is inside.
	inside := os.WriteFile(filepath.Join(dir, "cgroup.procs"), fmt.Append(nil, cmd.Process.Pid), 0)
	if inside != nil {
		_ = cmd.Process.Kill()
	}
	_ = stdin.Close()
	err = cmd.Wait()
	if inside != nil {
		t.Skip("no process can be put into the cgroup:", inside)
	}
	if err != nil {
		t.Errorf("the child: %v\n%s", err, out.String())
	}
	t.Log(strings.TrimSpace(out.String()))
}

// eatUntilShort takes memory until there is none. The step that is too much takes
// nothing.
func eatUntilShort(t *testing.T, who string) {
	if _, err := io.ReadAll(os.Stdin); err != nil {
		t.Fatal(err)
	}
	a, err := New(Options{NoHuge: true, Linger: -1})
	if err != nil {
		t.Fatal(err)
	}
	eat, size := eaters[who](t, a)
	for total := uint64(0); ; total += size {
		before := len(a.Extents())
		err := eat()
		if short, ok := errors.AsType[*ShortageError](err); ok && strings.Contains(short.What, "cgroup") && total >= 64<<20 {
			if n := len(a.Extents()); n != before {
				t.Errorf("%d extents are mapped after the error, %d before", n, before)
			}
			t.Logf("after %s: %v", bytesText(total), err)
			return
		}
		if err != nil || total > 256<<20 {
			t.Fatalf("after %s: %v", bytesText(total), err)
		}
	}
}

package memfd

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// inspected serves at a new path.
func inspected(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "mem.sock")
	i, err := ServeInspect(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := i.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(path); err == nil {
			t.Error("the socket is left over")
		}
	})
	return path
}

func TestWhatIsInspectedIsTheLayout(t *testing.T) {
	o := small()
	o.Name, o.Minimum, o.Limit = "one of many", map[int]uint64{AnyNode: 64 << 10}, map[int]uint64{AnyNode: 1 << 20}
	a := opened(t, linux{}, o)
	take(t, a, growth{owner: "somebody", size: 32 << 10, node: AnyNode, shared: true})
	t.Cleanup(func() { a.users.close() })
	if _, err := a.Heap("empty", HeapOptions{Node: AnyNode}); err != nil {
		t.Fatal(err)
	}
	remove, err := a.Validate("budget", AnyNode, func(Growth) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	defer remove()
	path := inspected(t)
	for range 3 * maxClients {
		got, err := Inspect(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		if got.PID != os.Getpid() || got.Version != InspectVersion || time.Since(got.Time) > time.Hour {
			t.Errorf("the answer is of process %d, version %d, at %v", got.PID, got.Version, got.Time)
		}
		found := false
		for _, l := range got.Arenas {
			if l.Name == o.Name {
				found = true
				if diff := cmp.Diff(a.Layout(), l, cmpopts.EquateEmpty()); diff != "" {
					t.Error("the layout, and what came over the socket (+):\n", diff)
				}
			}
		}
		if !found {
			t.Fatalf("no arena is called %q", o.Name)
		}
	}
	b := a.Layout().Classes[0].Blocks[0]
	giveBack(t, a, &block{VA: a.classes[0].base.Add(b.Offset), Size: 32 << 10})
}

func TestAClosedArenaIsNotInspected(t *testing.T) {
	o := small()
	o.Name = "short-lived"
	a, err := newArena(linux{}, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	for _, l := range inspect().Arenas {
		if l.Name == o.Name {
			t.Error("a closed arena is shown")
		}
	}
}

func TestTheSocketIsItsUsersOnly(t *testing.T) {
	info, err := os.Lstat(inspected(t))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the socket's mode is %v", info.Mode())
	}
}

func TestASocketIsReplacedOnlyIfNobodyListens(t *testing.T) {
	path := inspected(t)
	if _, err := ServeInspect(path); err == nil || !strings.Contains(err.Error(), "running process") {
		t.Errorf("a second one at the same path: %v", err)
	}
	file := filepath.Join(t.TempDir(), "precious")
	if err := os.WriteFile(file, []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ServeInspect(file); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("over a file: %v", err)
	}
	dead := filepath.Join(t.TempDir(), "dead.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: dead})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	i, err := ServeInspect(dead)
	if err != nil {
		t.Fatal("over the socket of a dead process:", err)
	}
	i.Close()
	if _, err := Inspect(t.Context(), dead); err == nil || !strings.Contains(err.Error(), "memfd.ServeInspect") {
		t.Errorf("after the end: %v", err)
	}
}

// server answers one client at a new path.
func server(t testing.TB, answer func(net.Conn)) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "peer.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		if c, err := l.Accept(); err == nil {
			defer c.Close()
			answer(c)
		}
	}()
	return path
}

func TestABadServerCostsItsClientAnErrorOnly(t *testing.T) {
	for name, one := range map[string]struct {
		answer func(net.Conn)
		want   string
	}{
		"silence":  {func(c net.Conn) {}, "no inspection"},
		"words":    {func(c net.Conn) { io.WriteString(c, "hello\n") }, "no inspection"},
		"a future": {func(c net.Conn) { io.WriteString(c, `{"version":2}`) }, "version 2"},
		"types":    {func(c net.Conn) { io.WriteString(c, `{"version":1,"pid":"x"}`) }, "no inspection"},
		"depth":    {func(c net.Conn) { io.WriteString(c, strings.Repeat(`{"arenas":[`, 20000)) }, "no inspection"},
		"parts": {func(c net.Conn) {
			io.WriteString(c, `{"version":1,"arenas":[`+strings.Repeat(`{},`, maxObjects)+`{}]}`)
		}, "parts"},
		"no end": {func(c net.Conn) {
			for chunk := []byte(strings.Repeat(" ", 1<<20)); ; {
				if _, err := c.Write(chunk); err != nil {
					return
				}
			}
		}, "more than 64 MiB"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Inspect(t.Context(), server(t, one.answer)); err == nil || !strings.Contains(err.Error(), one.want) {
				t.Errorf("the error is %v, want one about %q", err, one.want)
			}
		})
	}
}

func TestAServerThatHangsIsLeft(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	path := server(t, func(c net.Conn) {
		cancel()
		io.Copy(io.Discard, c) // until the client is gone
	})
	if _, err := Inspect(ctx, path); !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
}

// Whatever is decoded is encoded and decoded as the same.
func FuzzDecodeInspection(f *testing.F) {
	for _, seed := range []string{
		`{"version":1,"arenas":[{"name":"x","classes":[{"page":4096,"va":"0x1000","blocks":[{"va":"0x1000","size":4096,"state":"live"}]}]}]}`,
		`{"version":1,"time":"2026-01-02T03:04:05Z","huge_pages":[{"page":2097152,"free":3}]}`, `{"version":1,"arenas":[{"nodes":[{"node":-1}]}]}`, `{}`, `[`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		one, err := decodeInspection(text)
		if err != nil {
			return
		}
		again, err := json.Marshal(one)
		if err != nil {
			t.Fatal(err)
		}
		two, err := decodeInspection(again)
		if err != nil {
			t.Fatalf("%s: %v", again, err)
		}
		if diff := cmp.Diff(one, two, cmpopts.EquateEmpty()); diff != "" {
			t.Error(diff)
		}
	})
}

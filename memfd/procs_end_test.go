package memfd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// A process that is a primary serves at socketVar, until it is killed.
const childPrimary = "primary"

func init() {
	if os.Getenv(childVar) != childPrimary {
		return
	}
	o := small()
	o.Base = testBase
	a, err := New(o)
	if err == nil {
		_, err = a.Zone(context.Background(), "left", ZoneOptions{Size: 4096})
	}
	if err == nil {
		copy(a.FindZone("left").VA.Bytes(5), "alone")
		_, err = a.ServeProcesses(os.Getenv(socketVar), PrimaryOptions{Deadline: soon})
	}
	fmt.Println("ok", err)
	select {}
}

func TestWhenThePrimaryDiesMemoryStaysAndAskingForMoreFails(t *testing.T) {
	n := &nation{t: t, path: filepath.Join(t.TempDir(), "s")}
	primary := n.spawn("", childVar+"="+childPrimary)
	primary.hears("ok <nil>")
	var k saboteur
	s, err := attach(t.Context(), &k, n.path, AttachOptions{Name: "us"})
	if err != nil {
		t.Fatal(err)
	}
	before := countFiles(t)
	z, err := s.FindZone(t.Context(), "left")
	if err != nil {
		t.Fatal(err)
	}
	primary.kill()
	<-s.Done()
	if err := s.Err(); !errors.Is(err, ErrPrimary) {
		t.Error("Err:", err)
	}
	if got := string(z.VA.Bytes(5)); got != "alone" {
		t.Errorf("the zone has %q", got)
	}
	if e, ok := s.Lookup(z.VA); !ok || e.Tag != Shared || e.FD < 0 {
		t.Errorf("Lookup: %+v", e)
	}
	if _, err := s.Alloc(t.Context(), 1, 0); !errors.Is(err, ErrPrimary) {
		t.Error("Alloc:", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	// One of the memory, one of the connection; the pipes of the child are gone too.
	if after := countFiles(t); after > before-2 {
		t.Errorf("%d open files, %d before closing", after, before)
	}
	// The addresses are free again, and the socket is nobody's.
	o := small()
	o.Base = testBase
	a := opened(t, linux{}, o)
	p, err := a.ServeProcesses(n.path, PrimaryOptions{})
	if err != nil {
		t.Fatal("after a primary that died:", err)
	}
	if err := p.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestAttachingThatFailsAtAnySystemCallLeavesNothing(t *testing.T) {
	n := &nation{t: t, path: filepath.Join(t.TempDir(), "s")}
	primary := n.spawn("", childVar+"="+childPrimary)
	primary.hears("ok <nil>")
	free := func() {
		t.Helper()
		mem, err := linux{}.reserve(testBase, small().Space)
		if err == nil {
			err = linux{}.unmap(mem)
		}
		if err != nil {
			t.Error("the addresses are not free:", err)
		}
	}
	before := countFiles(t)
	var hits []string
	for k := 1; ; k++ {
		var kernel saboteur
		kernel.arm(unix.ENOMEM, k)
		s, err := attach(t.Context(), &kernel, n.path, AttachOptions{Name: "us"})
		failed := kernel.failed()
		kernel.arm(nil)
		if len(failed) == 0 {
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		} else if err == nil {
			t.Fatalf("%q failed, and attaching did not", failed)
		}
		hits = append(hits, failed...)
		free()
		if after := countFiles(t); after != before {
			t.Errorf("%d files are open after %q failed, %d before", after, failed, before)
		}
		if len(failed) == 0 {
			break
		}
	}
	if diff := cmp.Diff([]string{"reserve", "identify", "mapFile", "undump"}, hits); diff != "" {
		t.Error("the calls that failed:", diff)
	}
	// Where a context ends in between nothing stays either.
	for i := range 50 {
		ctx, cancel := context.WithCancel(t.Context())
		go cancel()
		s, err := Attach(ctx, n.path, AttachOptions{Name: fmt.Sprint("late", i)})
		if err == nil {
			err = s.Close()
		} else if errors.Is(err, context.Canceled) {
			err = nil
		}
		if err != nil {
			t.Error(err)
		}
		cancel()
	}
	free()
	if after := countFiles(t); after != before {
		t.Errorf("%d files are open, %d before", after, before)
	}
}

func TestAttachingAndDetachingInAStormLeavesNothing(t *testing.T) {
	n := served(t, small(), PrimaryOptions{})
	before := countFiles(t)
	h, err := n.a.Heap("h", HeapOptions{Node: AnyNode})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for j := range 5 {
				c := n.spawn(fmt.Sprint(i, "-", j))
				if j%2 == 0 { // in the middle of whatever
					c.kill()
					continue
				}
				c.hears("ok attached")
				c.does("work 4")
				if j == 1 {
					c.does("close")
				}
				c.kill()
			}
		})
	}
	own := &owner{t: t, h: h, random: newRandom(3)}
	own.work(200)
	wg.Wait()
	n.alone()
	own.end()
	if left := n.walked(); left != "" {
		t.Errorf("still mapped: %s", left)
	}
	if after := countFiles(t); after != before {
		t.Errorf("%d open files before, %d after", before, after)
	}
}

func TestClosingThePrimaryWaitsForWhoHasItsMemory(t *testing.T) {
	n := served(t, small(), PrimaryOptions{})
	c := n.attached("c")
	b := take(t, n.a, growth{owner: "b", size: 16 << 10, node: AnyNode})
	now, cancel := context.WithCancel(t.Context())
	cancel()
	if err := n.p.Close(now); !errors.Is(err, ErrBusy) || !strings.Contains(err.Error(), `"c" (pid `) {
		t.Error("closing:", err)
	}
	if got := c.fails("done"); !strings.Contains(got, ErrPrimary.Error()) {
		t.Error("it is told", got)
	}
	if late := n.spawn("late").reply(); !strings.HasPrefix(late, "error ") {
		t.Error("attaching to a primary that is closed:", late)
	}
	c.does("close")
	if err := n.p.Close(t.Context()); err != nil {
		t.Error(err)
	}
	giveBack(t, n.a, b)
}

func TestAnotherUserMayAttachOnlyIfNamed(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can become somebody else")
	}
	const nobody = 65534
	for _, named := range []bool{false, true} {
		t.Run(fmt.Sprint(named), func(t *testing.T) {
			po := PrimaryOptions{Mode: 0o666}
			if named {
				po = PrimaryOptions{UIDs: []uint32{nobody}}
			}
			n := served(t, small(), po)
			for dir := filepath.Dir(n.path); dir != os.TempDir() && len(dir) > 1; dir = filepath.Dir(dir) {
				if err := os.Chmod(dir, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			b := take(t, n.a, growth{owner: "b", size: 16 << 10, node: AnyNode})
			cmd := child(t, "")
			cmd.Env = append(cmd.Env, childVar+"="+childSecondary, socketVar+"="+n.path, socketVar+"_NAME=nobody")
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
			c := n.start(cmd)
			if !named {
				if got := c.reply(); !strings.Contains(got, "PrimaryOptions.UIDs") {
					t.Error("it hears", got)
				}
				giveBack(t, n.a, b)
				return
			}
			c.hears("ok attached")
			if got, want := c.does("extents"), n.walked(); got != want || want == "" {
				t.Errorf("it has %s, want %s", got, want)
			}
			c.does("alloc 1000")
			c.does("check")
			c.does("close")
			giveBack(t, n.a, b)
		})
	}
}

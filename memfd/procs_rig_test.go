package memfd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/memtable"
)

// testBase is where nothing else is in any process.
const testBase = 0x100000000000

// nation is an arena that is served, and its secondaries.
type nation struct {
	t    *testing.T
	a    *Arena
	p    *Primary
	path string
}

// served makes an arena that is served. Both end with the test, which fails if
// they cannot.
func served(t *testing.T, o Options, po PrimaryOptions) *nation {
	t.Helper()
	return servedOn(t, linux{}, o, po)
}

// servedOn does it on a kernel.
func servedOn(t *testing.T, k kernel, o Options, po PrimaryOptions) *nation {
	t.Helper()
	o.Base = testBase
	a := opened(t, k, o)
	if po.Deadline == 0 {
		po.Deadline = soon // the machine may be slow: only who is stopped is late
	}
	n := &nation{t: t, a: a, path: filepath.Join(t.TempDir(), "s")}
	var err error
	if n.p, err = a.ServeProcesses(n.path, po); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), soon)
		defer cancel()
		if err := n.p.Close(ctx); err != nil {
			t.Error("closing the primary:", err)
		}
	})
	return n
}

// pupil is a process that is a secondary, or tried to be.
type pupil struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

// spawn starts a secondary, and does not wait for it.
func (n *nation) spawn(name string, env ...string) *pupil {
	n.t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), childVar+"="+childSecondary, socketVar+"="+n.path, socketVar+"_NAME="+name)
	cmd.Env = append(cmd.Env, env...)
	return n.start(cmd)
}

func (n *nation) start(cmd *exec.Cmd) *pupil {
	n.t.Helper()
	c := &pupil{t: n.t, cmd: cmd}
	var err error
	if c.in, err = cmd.StdinPipe(); err != nil {
		n.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		n.t.Fatal(err)
	}
	c.out = bufio.NewScanner(out)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(c.kill)
	return c
}

// attached starts a secondary and waits until it is one.
func (n *nation) attached(name string) *pupil {
	n.t.Helper()
	c := n.spawn(name)
	c.hears("ok attached")
	return c
}

// say has the process do something; reply waits until it has.
func (c *pupil) say(format string, args ...any) {
	c.t.Helper()
	if _, err := fmt.Fprintf(c.in, format+"\n", args...); err != nil {
		c.t.Fatal(err)
	}
}

func (c *pupil) reply() string {
	c.t.Helper()
	if !c.out.Scan() {
		c.t.Fatal("the secondary has ended")
	}
	return c.out.Text()
}

// hears expects an answer.
func (c *pupil) hears(want string) {
	c.t.Helper()
	if got := c.reply(); got != want {
		c.t.Fatalf("the secondary answers %s, want %s", got, want)
	}
}

// does has the process do something that must succeed.
func (c *pupil) does(format string, args ...any) string {
	c.t.Helper()
	c.say(format, args...)
	said, ok := strings.CutPrefix(c.reply(), "ok")
	if !ok {
		c.t.Fatalf("%q: the secondary answers %s", fmt.Sprintf(format, args...), c.out.Text())
	}
	return strings.TrimSpace(said)
}

// fails has the process do something that must not.
func (c *pupil) fails(format string, args ...any) string {
	c.t.Helper()
	c.say(format, args...)
	said, ok := strings.CutPrefix(c.reply(), "error ")
	if !ok {
		c.t.Fatalf("%q: the secondary answers %s", fmt.Sprintf(format, args...), c.out.Text())
	}
	return said
}

// kill ends the process as kill -9 does. It may have ended.
func (c *pupil) kill() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
	_ = c.in.Close()
}

// stop has the process stand still, and returns when it does.
func (c *pupil) stop() {
	c.t.Helper()
	if err := c.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		c.t.Fatal(err)
	}
	var status unix.WaitStatus
	for {
		_, err := unix.Wait4(c.cmd.Process.Pid, &status, unix.WUNTRACED, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || !status.Stopped() {
			c.t.Fatal("it does not stand still:", status, err)
		}
		return
	}
}

// await waits until the primary's secondaries do.
func (n *nation) await(what string, do func([]SecondaryInfo) bool) {
	n.t.Helper()
	until := time.Now().Add(soon)
	for !do(n.p.Secondaries()) {
		if time.Now().After(until) {
			n.t.Fatalf("%s: %+v", what, n.p.Secondaries())
		}
		time.Sleep(time.Millisecond)
	}
}

// alone waits until there is nobody else.
func (n *nation) alone() {
	n.t.Helper()
	n.await("secondaries that stay", func(all []SecondaryInfo) bool { return len(all) == 0 })
}

// walked writes what the arena has as a secondary does.
func (n *nation) walked() string { return written(n.a.Walk()) }

func written(walk iter.Seq[memtable.Extent]) string {
	var all []string
	for e := range walk {
		all = append(all, fmt.Sprintf("%v+%x@%x", e.VA, e.Size, e.Offset))
	}
	return strings.Join(all, " ")
}

// agree sees that a process has what the primary has handed out.
func (n *nation) agree(c *pupil) {
	n.t.Helper()
	want := written(runsOf(func() (e []memtable.Extent) {
		n.a.locked(func() { _, e = n.a.pick(func(s *slot) bool { return s.state == live }) })
		return e
	}))
	if got := c.does("extents"); got != want {
		n.t.Errorf("it has %s, want %s", got, want)
	}
}

package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vhostd/vhostd/vhost/vhosttest"
)

// build makes the binary that the tests run.
func build(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "vhostd")
	if out, err := exec.Command("go", "build", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return bin
}

// process is a daemon that runs, with its sockets in a folder.
type process struct {
	t   *testing.T
	cmd *exec.Cmd
	dir string
	log *syncBuffer
}

// syncBuffer is what a process has written so far.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) lines() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bytes.Count(s.b.Bytes(), []byte("\n"))
}

// launch starts a daemon with ports p0, p1, … in dir and waits until it serves.
func launch(t *testing.T, bin, dir string, ports int) *process {
	t.Helper()
	p := &process{t: t, dir: dir, log: new(syncBuffer)}
	args := []string{"serve", "--control", filepath.Join(dir, "control")}
	for i := range ports {
		args = append(args, "--net", fmt.Sprintf("p%d=%s", i, p.socket(i)))
	}
	p.cmd = exec.Command(bin, args...)
	p.cmd.Stderr = p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.end)
	p.until("the daemon serves", func() bool { // the control socket is the last that it opens
		c, err := net.Dial("unix", filepath.Join(dir, "control"))
		if err != nil {
			return false
		}
		c.Close()
		return true
	})
	return p
}

func (p *process) socket(i int) string { return filepath.Join(p.dir, fmt.Sprintf("p%d", i)) }

// end ends the daemon in good order, unless it has ended.
func (p *process) end() {
	if p.cmd.ProcessState == nil {
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		_ = p.cmd.Wait()
	}
}

// until polls a condition; the test fails when it does not come true.
func (p *process) until(what string, ok func() bool) {
	p.t.Helper()
	for end := time.Now().Add(vhosttest.Timeout); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			p.t.Fatalf("%s: not in %v", what, vhosttest.Timeout)
		}
	}
}

// proc reads a file of the daemon's in /proc.
func (p *process) proc(name string) string {
	p.t.Helper()
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.cmd.Process.Pid), name))
	if err != nil {
		p.t.Fatal(err)
	}
	return string(b)
}

// entries counts what is in a folder of the daemon's in /proc.
func (p *process) entries(name string) int {
	p.t.Helper()
	list, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(p.cmd.Process.Pid), name))
	if err != nil {
		p.t.Fatal(err)
	}
	return len(list)
}

func (p *process) files() int   { return p.entries("fd") }
func (p *process) threads() int { return p.entries("task") }

// maps counts mappings, and those of other processes' memory among them.
func (p *process) maps() (all, shared int) {
	p.t.Helper()
	m := p.proc("maps")
	return strings.Count(m, "\n"), strings.Count(m, "/memfd:")
}

// resident is the daemon's own memory in bytes.
func (p *process) resident() int {
	p.t.Helper()
	for line := range strings.Lines(p.proc("status")) {
		var kib int
		if n, _ := fmt.Sscanf(line, "RssAnon: %d kB", &kib); n == 1 {
			return kib << 10
		}
	}
	p.t.Fatal("no RssAnon in /proc/PID/status")
	return 0
}

// ticks is the processor time that the daemon has used (proc(5), stat: utime and
// stime).
func (p *process) ticks() int {
	p.t.Helper()
	_, after, _ := strings.Cut(p.proc("stat"), ") ")
	f := strings.Fields(after)
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return user + system
}

// flow is two guests that talk until the test ends, or end is called.
type flow struct {
	frames, lost atomic.Int64
	stop         atomic.Bool
	wg           sync.WaitGroup
}

func (f *flow) end() {
	f.stop.Store(true)
	f.wg.Wait()
}

var ends = [2][6]byte{{2, 0, 0, 0, 0, 1}, {2, 0, 0, 0, 0, 2}}

// talk lets guests at p0 and p1 talk.
func (p *process) talk() *flow {
	p.t.Helper()
	a, b := vhosttest.Plug(p.t, p.socket(0), vhosttest.Options{}), vhosttest.Plug(p.t, p.socket(1), vhosttest.Options{})
	p.until("they hear each other", func() bool {
		b.Send(vhosttest.Frame(ends[0], ends[1], 60, 0))
		return a.Recv(10*time.Millisecond) != nil
	})
	f := new(flow)
	f.wg.Go(func() {
		frame := vhosttest.Frame(ends[1], ends[0], 900, 0)
		for i := byte(0); !f.stop.Load(); i++ {
			frame[14] = i
			a.Send(frame)
			if bytes.Equal(b.Recv(5*time.Second), frame) {
				f.frames.Add(1)
			} else {
				f.lost.Add(1)
			}
		}
	})
	p.t.Cleanup(f.end)
	return f
}

// alive fails unless the flow goes on and has lost nothing.
func (p *process) alive(f *flow) {
	p.t.Helper()
	want := f.frames.Load() + 10
	p.until("other ports carry traffic", func() bool { return f.frames.Load() >= want })
	if n := f.lost.Load(); n > 0 {
		p.t.Errorf("%d frames between other ports were lost", n)
	}
}

package peers

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// shortDir is a directory of the test's whose name is short, for a socket's path
// may have 107 bytes, and without commas, for they separate options.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "peers")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// built is the binary under test, built once per run of the tests.
var built struct {
	sync.Once
	dir, path string
	err       error
}

// vhostd builds vhostd from the tree that the tests are of.
func vhostd(t testing.TB) string {
	t.Helper()
	built.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "vhostd"); built.err != nil {
			return
		}
		built.path = filepath.Join(built.dir, "vhostd")
		cmd := exec.Command("go", "build", "-o", built.path, "github.com/vhostd/vhostd/cmd/vhostd")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			built.err = fmt.Errorf("%w: %s", err, out)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return built.path
}

// Vhostd is a running daemon.
type Vhostd struct {
	t       testing.TB
	control string
	cmd     *exec.Cmd
	log     string // path of what it wrote
	done    chan struct{}
	killed  bool // by us
}

// StartVhostd starts a daemon with these values of --net and waits until it can
// be asked. It must end in order with the test, and without a crash.
func StartVhostd(t testing.TB, nets ...string) *Vhostd {
	t.Helper()
	dir := shortDir(t)
	v := &Vhostd{t: t, control: filepath.Join(dir, "control.sock"), log: filepath.Join(dir, "log"), done: make(chan struct{})}
	log, err := os.Create(v.log)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	args := []string{"serve", "--control", v.control}
	for _, n := range nets {
		args = append(args, "--net", n)
	}
	v.cmd = exec.Command(vhostd(t), args...)
	v.cmd.Stdout, v.cmd.Stderr = log, log
	v.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := v.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		v.cmd.Wait()
		close(v.done)
	}()
	t.Cleanup(v.Stop)
	v.Await("the daemon to answer", func() bool {
		_, err := v.ask("ports", "")
		return err == nil
	})
	return v
}

// Stop ends the daemon in order.
func (v *Vhostd) Stop() {
	v.t.Helper()
	select {
	case <-v.done:
		if !v.killed && !v.cmd.ProcessState.Success() {
			v.t.Errorf("vhostd ended early: %v; it wrote:\n%s", v.cmd.ProcessState, v.Log())
		}
		return
	default:
	}
	v.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-v.done:
		if !v.cmd.ProcessState.Success() {
			v.t.Errorf("vhostd ended with %v; it wrote:\n%s", v.cmd.ProcessState, v.Log())
		}
	case <-time.After(patience):
		v.cmd.Process.Kill()
		<-v.done
		v.t.Errorf("vhostd did not end; it wrote:\n%s", v.Log())
	}
	if v.t.Failed() {
		v.t.Logf("vhostd wrote:\n%s", v.Log())
	}
}

// Kill ends the daemon as a crash would.
func (v *Vhostd) Kill() {
	v.killed = true
	v.cmd.Process.Kill()
	<-v.done
}

// Log is what the daemon wrote.
func (v *Vhostd) Log() string {
	text, _ := os.ReadFile(v.log)
	return string(text)
}

// CPUTicks is the time the daemon has used, in user space and in the kernel.
func (v *Vhostd) CPUTicks() int {
	v.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", v.cmd.Process.Pid))
	if err != nil {
		v.t.Fatal(err)
	}
	// proc(5): what follows the name, which may have spaces, begins with field 3.
	_, rest, _ := strings.Cut(string(text), ") ")
	sum := 0
	for _, field := range strings.Fields(rest)[14-3 : 16-3] {
		n, err := strconv.Atoi(field)
		if err != nil {
			v.t.Fatal(err)
		}
		sum += n
	}
	return sum
}

// Await polls until ok; it fails the test when that takes too long.
func (v *Vhostd) Await(what string, ok func() bool) {
	v.t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(10 * time.Millisecond) {
		select {
		case <-v.done:
			v.t.Fatalf("waiting for %s: vhostd ended with %v; it wrote:\n%s", what, v.cmd.ProcessState, v.Log())
		default:
		}
		if time.Now().After(deadline) {
			v.t.Fatalf("waited %v for %s; vhostd wrote:\n%s", patience, what, v.Log())
		}
	}
}

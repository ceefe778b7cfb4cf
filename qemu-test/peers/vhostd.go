package peers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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

// ask runs vhostd show, the way an operator's script would.
func (v *Vhostd) ask(what, port string) ([]byte, error) {
	args := []string{"show", what, "--json", "--control", v.control}
	if port != "" {
		args = append(args, port)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, v.cmd.Path, args...).Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		err = fmt.Errorf("%w: %s", err, exit.Stderr)
	}
	return out, err
}

func show[T any](v *Vhostd, what, port string) []T {
	v.t.Helper()
	out, err := v.ask(what, port)
	var list struct{ Items []T }
	if err == nil {
		err = json.Unmarshal(out, &list)
	}
	if err != nil {
		v.t.Fatalf("vhostd show %s %s: %v", what, port, err)
	}
	return list.Items
}

// Queues is what these tests look at in vhostd show queues.
type Queues struct {
	State    string
	Features struct{ Names []string }
	Rings    []struct {
		Name             string
		Started, Enabled bool
		Broken           string
		BadChains        map[string]uint64 `json:"bad_chains"`
	}
}

// Queues asks for one port's; none if no front-end is there.
func (v *Vhostd) Queues(port string) (q Queues) {
	v.t.Helper()
	if all := show[Queues](v, "queues", port); len(all) > 0 {
		q = all[0]
	}
	return q
}

// Running says whether so many rings of a port are started and enabled.
func (v *Vhostd) Running(port string, rings int) bool {
	v.t.Helper()
	n := 0
	for _, r := range v.Queues(port).Rings {
		if r.Started && r.Enabled {
			n++
		}
	}
	return n == rings
}

// Port is what these tests look at in vhostd show ports.
type Port struct{ Connects uint64 }

// Port asks for one.
func (v *Vhostd) Port(name string) Port {
	v.t.Helper()
	return only[Port](v, "ports", name)
}

// Stats is what these tests look at in vhostd show stats.
type Stats struct {
	InFrames  uint64            `json:"in_frames"`  // from the front-end
	OutFrames uint64            `json:"out_frames"` // to it
	Drops     map[string]uint64 // frames, by reason
}

// Stats asks for one port's.
func (v *Vhostd) Stats(port string) Stats {
	v.t.Helper()
	return only[Stats](v, "stats", port)
}

func only[T any](v *Vhostd, what, port string) T {
	v.t.Helper()
	all := show[T](v, what, port)
	if len(all) != 1 {
		v.t.Fatalf("vhostd show %s %s: %d ports", what, port, len(all))
	}
	return all[0]
}

// CheckFeatures checks that a test tests what it is named for: +name must have
// been negotiated, -name must not.
func CheckFeatures(t testing.TB, names []string, signed ...string) {
	t.Helper()
	for _, s := range signed {
		name, want := s[1:], s[0] == '+'
		if slices.Contains(names, name) != want {
			t.Errorf("negotiated %s: is %s among them? want %v", strings.Join(names, " "), name, want)
		}
	}
}

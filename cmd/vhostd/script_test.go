package main

import (
	"context"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/cmd/vhostd/internal/control"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"vhostd": main})
}

// TestScripts runs the command as people do: see testdata.
func TestScripts(t *testing.T) {
	bin := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "../../examples/arena")
	if said, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", build, err, said)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("XDG_RUNTIME_DIR", e.WorkDir)
			e.Setenv("PATH", bin+string(filepath.ListSeparator)+e.Getenv("PATH"))
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"busy":    busy,
			"listens": listens,
			"stale":   stale,
			"term":    term,
		},
	})
}

// listens waits until someone listens at a socket.
func listens(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: listens SOCKET")
	}
	var err error
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		var c net.Conn
		if c, err = net.Dial("unix", ts.MkAbs(args[0])); err == nil {
			c.Close()
			return
		}
	}
	ts.Fatalf("nobody listens at %s: %v", args[0], err)
}

// stale leaves a socket behind, as a process that was killed does.
func stale(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: stale SOCKET")
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: ts.MkAbs(args[0])})
	ts.Check(err)
	l.SetUnlinkOnClose(false)
	ts.Check(l.Close())
}

// term sends SIGTERM to who listens at a socket.
func term(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: term SOCKET")
	}
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: ts.MkAbs(args[0])})
	ts.Check(err)
	defer c.Close()
	raw, err := c.SyscallConn()
	ts.Check(err)
	var peer *unix.Ucred
	var credErr error
	ts.Check(raw.Control(func(fd uintptr) {
		peer, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}))
	ts.Check(credErr)
	ts.Check(unix.Kill(int(peer.Pid), unix.SIGTERM))
}

// busy waits until frames come in at the port of the daemon whose socket that is.
func busy(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: busy SOCKET")
	}
	client := control.NewClient(ts.MkAbs("ctl.sock"))
	port := strings.TrimSuffix(args[0], ".sock")
	frames := func() uint64 {
		all, err := control.Get[control.Stats](context.Background(), client, "stats", port)
		ts.Check(err)
		return all.Items[0].InFrames
	}
	before := frames()
	for end := time.Now().Add(10 * time.Second); frames() == before; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			ts.Fatalf("no frames come in at %s", args[0])
		}
	}
}

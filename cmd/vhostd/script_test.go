package main

import (
	"net"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
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

package qemutest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Program is a program of ours that runs in a lab.
type Program struct {
	name   string
	path   string
	args   []string
	log    string // file that gets all output; appended to at a restart
	cmd    *exec.Cmd
	exited chan struct{}
	err    error // how it ended; read when exited is closed
}

func (p *Program) start() error {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close() // the process has its own
	fmt.Fprintf(log, "$ %s %s\n", p.name, strings.Join(p.args, " "))
	p.cmd = exec.Command(p.path, p.args...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return err
	}
	p.exited = make(chan struct{})
	go func() {
		p.err = p.cmd.Wait()
		close(p.exited)
	}()
	return nil
}

// Kill ends it as a crash would, and waits for its end.
func (p *Program) Kill() {
	p.cmd.Process.Kill() // an error: it is gone
	<-p.exited
}

// stopTime bounds an orderly end.
const stopTime = 10 * time.Second

// Stop asks it to end, and says how it did.
func (p *Program) Stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-p.exited:
		return p.err
	case <-time.After(stopTime):
		p.Kill()
		return fmt.Errorf("%s did not end within %v of SIGTERM", p.name, stopTime)
	}
}

// await polls until ready, or the program's end, or ctx's.
func (p *Program) await(ctx context.Context, ready func() bool) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ready() {
		select {
		case <-tick.C:
		case <-p.exited:
			return fmt.Errorf("%s has ended: %v\n%s", p.name, p.err, p.lastWords())
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w\n%s", p.name, context.Cause(ctx), p.lastWords())
		}
	}
	return nil
}

func (p *Program) lastWords() string { return tail(p.log, 40) }

// Daemon is a running vhostd.
type Daemon struct {
	Program
	control string
	sockets []string // it listens at
}

// Port is one --net of the daemon, or one --blk.
type Port struct {
	Name    string
	Options string // "group=a,features=-mrg_rxbuf", without the socket
	Disk    bool   // Options begin with file=
}

// readyTime bounds the start of a program of ours.
const readyTime = 15 * time.Second

// Program builds a program of ours once per lab and starts it; ready says when
// it is.
func (l *Lab) Program(ctx context.Context, pkg, name string, ready func() bool, args ...string) (*Program, error) {
	p := &Program{name: name, path: filepath.Join(l.Dir, name+".bin"), args: args, log: filepath.Join(l.Dir, name+".log")}
	if err := l.launch(ctx, p, pkg, ready); err != nil {
		return nil, err
	}
	return p, nil
}

func (l *Lab) launch(ctx context.Context, p *Program, pkg string, ready func() bool) error {
	if !there(p.path) {
		if err := build(ctx, pkg, p.path); err != nil {
			return err
		}
	}
	if err := p.start(); err != nil {
		return err
	}
	l.mu.Lock()
	l.programs = append(l.programs, p)
	l.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, readyTime)
	defer cancel()
	return p.await(ctx, ready)
}

// Vhostd starts the daemon with ports whose sockets are l.Socket(name), and
// waits until it answers.
func (l *Lab) Vhostd(ctx context.Context, name string, ports ...Port) (*Daemon, error) {
	d := &Daemon{control: l.Socket(name + "-control")}
	args := []string{"serve", "--control", d.control, "--log-level", "debug"}
	for _, p := range ports {
		net := p.Name + "=" + l.Socket(p.Name)
		if p.Options != "" {
			net += "," + p.Options
		}
		flag := "--net"
		if p.Disk {
			flag = "--blk"
		}
		args = append(args, flag, net)
		if !strings.Contains(p.Options, "mode=client") {
			d.sockets = append(d.sockets, l.Socket(p.Name))
		}
	}
	d.Program = Program{name: name, path: filepath.Join(l.Dir, "vhostd.bin"), args: args, log: filepath.Join(l.Dir, name+".log")}
	return d, l.launch(ctx, &d.Program, "./cmd/vhostd", func() bool { return d.ready(ctx) })
}

// Restart starts a daemon again that has ended.
func (d *Daemon) Restart(ctx context.Context) error {
	if err := d.start(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, readyTime)
	defer cancel()
	return d.await(ctx, func() bool { return d.ready(ctx) })
}

// ready says whether the daemon answers and its sockets are there.
func (d *Daemon) ready(ctx context.Context) bool {
	for _, s := range append(d.sockets, d.control) {
		if !there(s) {
			return false
		}
	}
	_, err := Show[PortState](ctx, d, "ports")
	return err == nil
}

// Resize runs "vhostd resize".
func (d *Daemon) Resize(ctx context.Context, disk string) error {
	out, err := exec.CommandContext(ctx, d.path, "resize", disk, "--control", d.control).CombinedOutput()
	if err != nil {
		return fmt.Errorf("vhostd resize %s: %w: %s", disk, err, out)
	}
	return nil
}

// ShowText is what "vhostd show" prints for people.
func (d *Daemon) ShowText(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, d.path, append(append([]string{"show"}, args...), "--control", d.control)...)
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, exit.Stderr)
		}
		return "", fmt.Errorf("vhostd show %s: %w", strings.Join(args, " "), err)
	}
	return string(out), nil
}

// Show is what "vhostd show … --json" answers.
func Show[T any](ctx context.Context, d *Daemon, args ...string) ([]T, error) {
	out, err := d.ShowText(ctx, append(args, "--json")...)
	if err != nil {
		return nil, err
	}
	var list struct {
		Items []T `json:"items"`
	}
	if err := json.NewDecoder(strings.NewReader(out)).Decode(&list); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("vhostd show %s --json: %w", strings.Join(args, " "), err)
	}
	return list.Items, nil
}

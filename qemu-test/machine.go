package qemutest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/vhostd/vhostd/qemu-test/guestapi"
)

// bootTime bounds a boot. Idle, it takes 3 s; on a machine with six times more
// to do than it has cores, 40 s.
const bootTime = 2 * time.Minute

// Machine is a QEMU process with a guest whose agent has answered.
type Machine struct {
	Guest
	Hello guestapi.Hello // of the last boot
	QMP   *QMP

	agent  *agent
	cmd    *exec.Cmd
	log    *os.File
	exited chan struct{} // closed when the process is gone
}

// Boot starts a guest and waits for its agent.
func (l *Lab) Boot(ctx context.Context, g Guest) (*Machine, error) {
	m, err := l.boot(ctx, g, l.kvm)
	if err != nil {
		return nil, fmt.Errorf("boot %s with %v: %w", g.Name, g.QEMU, err)
	}
	return m, nil
}

func (l *Lab) boot(ctx context.Context, g Guest, kvm bool) (*Machine, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, bootTime, fmt.Errorf("the guest's agent is not there after %v", bootTime))
	defer cancel()
	qmp, err := l.listen(g.Name + ".qmp")
	if err != nil {
		return nil, err
	}
	defer qmp.Close()
	serial, err := l.listen(g.Name + ".agent")
	if err != nil {
		return nil, err
	}
	defer serial.Close()
	m := &Machine{Guest: g, exited: make(chan struct{})}
	if err := m.start(l, g.arguments(l.Dir, l.kernel, l.initramfs, kvm)); err != nil {
		return nil, err
	}
	l.mu.Lock()
	l.machines = append(l.machines, m)
	l.mu.Unlock()
	ctx, end := l.watch(ctx)
	defer end()
	if err := m.attach(ctx, qmp, serial); err != nil {
		m.Kill()
		return nil, fmt.Errorf("%w\n%s", err, m.lastWords(l))
	}
	return m, nil
}

// listen makes a socket that QEMU connects to.
func (l *Lab) listen(name string) (*net.UnixListener, error) {
	path := filepath.Join(l.Dir, name)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return net.ListenUnix("unix", &net.UnixAddr{Name: path})
}

// start starts the process. It dies with us.
func (m *Machine) start(l *Lab, args []string) error {
	var err error
	if m.log, err = os.Create(filepath.Join(l.Dir, m.Name+".qemu")); err != nil {
		return err
	}
	fmt.Fprintf(m.log, "%s \\\n %s\n", m.Guest.QEMU.Path, strings.ReplaceAll(strings.Join(args, " "), " -", " \\\n -"))
	m.cmd = exec.Command(m.Guest.QEMU.Path, args...)
	m.cmd.Stdout, m.cmd.Stderr = m.log, m.log
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := m.cmd.Start(); err != nil {
		return errors.Join(err, m.log.Close())
	}
	go func() {
		err := m.cmd.Wait()
		fmt.Fprintln(m.log, "QEMU has ended:", m.cmd.ProcessState, err)
		m.log.Close()
		close(m.exited)
	}()
	return nil
}

// attach takes QEMU's two connections and waits for the guest.
func (m *Machine) attach(ctx context.Context, qmp, serial *net.UnixListener) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-m.exited:
			cancel(errors.New("QEMU has ended"))
		case <-ctx.Done():
		}
		qmp.Close()
		serial.Close()
	}()
	conn, err := qmp.Accept()
	if err != nil {
		return errors.Join(context.Cause(ctx), err)
	}
	if m.QMP, err = newQMP(ctx, conn); err != nil {
		return err
	}
	if conn, err = serial.Accept(); err != nil {
		return errors.Join(context.Cause(ctx), err)
	}
	m.agent = newAgent(conn)
	m.Hello, err = m.agent.ready(ctx, 1)
	return err
}

// Reboot makes the guest's kernel restart the machine and waits for the agent.
func (m *Machine) Reboot(ctx context.Context) error {
	return m.restart(ctx, func(ctx context.Context) error {
		_, err := m.agent.call(ctx, guestapi.OpReboot, nil)
		return err
	})
}

// Reset pulls the reset line, of which the guest is not told, and waits for the
// agent.
func (m *Machine) Reset(ctx context.Context) error {
	return m.restart(ctx, func(ctx context.Context) error { return m.QMP.Do(ctx, "system_reset", nil, nil) })
}

// restart lets the machine start again, which otherwise ends QEMU: a guest that
// crashed must not come back as if nothing had been.
func (m *Machine) restart(ctx context.Context, how func(context.Context) error) error {
	if err := m.QMP.Do(ctx, "set-action", map[string]string{"reboot": "reset"}, nil); err != nil {
		return err
	}
	if err := m.again(ctx, how); err != nil {
		return err
	}
	return m.QMP.Do(ctx, "set-action", map[string]string{"reboot": "shutdown"}, nil)
}

// again waits for the boot that restart causes.
func (m *Machine) again(ctx context.Context, restart func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, bootTime, fmt.Errorf("%s is not back after %v", m.Name, bootTime))
	defer cancel()
	m.agent.mu.Lock()
	m.agent.allowed++
	want := m.agent.allowed
	m.agent.mu.Unlock()
	err := restart(ctx)
	if err != nil {
		return err
	}
	m.Hello, err = m.agent.ready(ctx, want)
	return err
}

// Kill ends the process and waits for its end.
func (m *Machine) Kill() {
	m.cmd.Process.Kill() // an error: it is gone
	<-m.exited
	if m.QMP != nil {
		m.QMP.conn.Close()
	}
	if m.agent != nil {
		m.agent.conn.Close()
	}
}

// lastWords are the ends of what QEMU and the console said. A crash takes more
// lines of the console than anything else.
func (m *Machine) lastWords(l *Lab) string {
	return tail(filepath.Join(l.Dir, m.Name+".qemu"), 5) + tail(filepath.Join(l.Dir, m.Name+".console"), 80)
}

// tail is the end of a file, under its name.
func tail(path string, lines int) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimSpace(string(text)), "\n")
	return fmt.Sprintf("--- %s\n%s\n", filepath.Base(path), strings.Join(all[max(0, len(all)-lines):], "\n"))
}

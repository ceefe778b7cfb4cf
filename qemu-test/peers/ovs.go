package peers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Where Debian has Open vSwitch. The switch with DPDK is an alternative of the
// one without, so it is not looked for in PATH.
const (
	ovsSwitch = "/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk"
	ovsSchema = "/usr/share/openvswitch/vswitch.ovsschema"
)

// OVS is an Open vSwitch of our own, with DPDK: a database and a switch, whose
// files are all in a directory of the test's.
type OVS struct {
	t    testing.TB
	dir  string
	done []chan struct{} // of its processes
}

// StartOVS starts it with a bridge that learns addresses. It ends with the test.
func StartOVS(t testing.TB) *OVS {
	t.Helper()
	if _, err := os.Stat(ovsSwitch); err != nil {
		t.Skip("Open vSwitch with DPDK is not installed: make deps")
	}
	o := &OVS{t: t, dir: shortDir(t)}
	o.run("ovsdb-tool", "create", o.path("conf.db"), ovsSchema)
	o.start("ovsdb-server", o.path("conf.db"), "--remote=p"+o.db(), "--no-chdir", "--unixctl="+o.path("db.ctl"))
	o.await("the database", func() bool { return o.try("ovs-vsctl", "--no-wait", "--db="+o.db(), "init") == nil })
	// Small pages and few of them: nothing is to be reserved for a test. The
	// main thread has one core and the one that polls another.
	o.run("ovs-vsctl", "--no-wait", "--db="+o.db(), "set", "Open_vSwitch", ".", "other_config:dpdk-init=true",
		"other_config:dpdk-lcore-mask=1", "other_config:pmd-cpu-mask=2",
		"other_config:dpdk-extra=--no-pci --no-huge --legacy-mem --no-shconf --no-telemetry -m 160")
	o.start(ovsSwitch, o.db(), "--no-chdir", "--unixctl="+o.path("switch.ctl"), "--log-file="+o.path("log"))
	o.run("ovs-vsctl", "--db="+o.db(), "add-br", "br0", "--", "set", "bridge", "br0", "datapath_type=netdev")
	return o
}

// AddPort adds a dpdkvhostuserclient port: OVS dials path, where a front-end
// listens, again and again.
func (o *OVS) AddPort(name, path string) {
	o.t.Helper()
	o.run("ovs-vsctl", "--db="+o.db(), "add-port", "br0", name, "--", "set", "Interface", name,
		"type=dpdkvhostuserclient", "options:vhost-server-path="+path)
}

// Status is what OVS tells of a port: its features, its rings …
func (o *OVS) Status(port, key string) string {
	o.t.Helper()
	out := o.run("ovs-vsctl", "--db="+o.db(), "--if-exists", "get", "Interface", port, "status:"+key)
	return strings.Trim(out, "\"\n")
}

// Count is one of the counters of a port.
func (o *OVS) Count(port, key string) string {
	o.t.Helper()
	return strings.TrimSpace(o.run("ovs-vsctl", "--db="+o.db(), "--if-exists", "get", "Interface", port, "statistics:"+key))
}

// Log is what the switch wrote.
func (o *OVS) Log() string {
	text, _ := os.ReadFile(o.path("log"))
	return string(text)
}

func (o *OVS) path(name string) string { return filepath.Join(o.dir, name) }

// db is how the database is reached.
func (o *OVS) db() string { return "unix:" + o.path("db.sock") }

// environment has all of its files made in the test's directory.
func (o *OVS) environment() []string {
	env := os.Environ()
	for _, name := range []string{"OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR"} {
		env = append(env, name+"="+o.dir)
	}
	return env
}

// start starts a process that ends with the test.
func (o *OVS) start(name string, args ...string) {
	o.t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = o.environment()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		o.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		cmd.Wait()
		close(done)
	}()
	o.done = append(o.done, done)
	o.t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-done:
		case <-time.After(patience / 3):
			cmd.Process.Kill()
			<-done
		}
		if o.t.Failed() && name == ovsSwitch {
			o.t.Logf("Open vSwitch wrote:\n%s", o.Log())
		}
	})
}

// try runs a command to its end.
func (o *OVS) try(name string, args ...string) error {
	_, err := o.output(name, args...)
	return err
}

func (o *OVS) output(name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = o.environment()
	out, err := cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		err = fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, exit.Stderr)
	}
	return string(out), err
}

func (o *OVS) run(name string, args ...string) string {
	o.t.Helper()
	out, err := o.output(name, args...)
	if err != nil {
		o.t.Fatalf("%v; Open vSwitch wrote:\n%s", err, o.Log())
	}
	return out
}

// await polls until ok. It ends early if one of the processes has ended.
func (o *OVS) await(what string, ok func() bool) {
	o.t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(10 * time.Millisecond) {
		for _, done := range o.done {
			select {
			case <-done:
				o.t.Fatalf("waiting for %s: a process of Open vSwitch ended; it wrote:\n%s", what, o.Log())
			default:
			}
		}
		if time.Now().After(deadline) {
			o.t.Fatalf("waited %v for %s; Open vSwitch wrote:\n%s", patience, what, o.Log())
		}
	}
}

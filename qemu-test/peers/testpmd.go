package peers

import (
	"bytes"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait for testpmd. It is generous: a wait that ends well
// ends early, and the machine may have two slow cores.
const patience = 30 * time.Second

const prompt = "testpmd> "

// Testpmd is a running dpdk-testpmd at its prompt.
type Testpmd struct {
	t     testing.TB
	cmd   *exec.Cmd
	stdin io.WriteCloser

	mu     sync.Mutex
	output bytes.Buffer  // all it ever said
	news   chan struct{} // has an element when output grew
	done   chan struct{} // closed when it has ended
	seen   int           // what of output has been answered for
}

// Config says how to start it. Ports are made in the order of Devices; frames
// are forwarded between ports 0 and 1, 2 and 3, and so on.
type Config struct {
	Devices []string // arguments of --vdev
	Queues  int      // receive and transmit queues of every port
	Ring    int      // descriptors of every queue
	Huge    bool     // on hugepages, in files of one page size; else on one file of small pages
	Grows   bool     // memory comes as it is wanted; else all of it at the start
	Mode    string   // forwarding mode: io, txonly, rxonly …
	Loop    bool     // every port forwards to itself
}

// memoryMB is enough for the buffers of four ports. On hugepages this many
// megabytes must be free for each testpmd.
const memoryMB = 64

// StartTestpmd starts it and waits for its first prompt. It ends with the test.
func StartTestpmd(t testing.TB, c Config) *Testpmd {
	t.Helper()
	path, err := exec.LookPath("dpdk-testpmd")
	if err != nil {
		t.Skip("dpdk-testpmd is not installed: make deps")
	}
	// Its output goes through stdio; the prompt alone does not. Without stdbuf
	// the prompt would come before the answer.
	cmd := exec.Command("stdbuf", append([]string{"-oL", path}, c.args(filepath.Base(shortDir(t)))...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p := &Testpmd{t: t, cmd: cmd, news: make(chan struct{}, 1), done: make(chan struct{})}
	if p.stdin, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = p, p
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(p.Kill)
	p.answer("start")
	return p
}

func (c Config) args(prefix string) []string {
	args := []string{"--lcores=0@0-1,1@0-1", "--no-pci", "--no-telemetry", "--file-prefix=" + prefix}
	if !c.Grows {
		args = append(args, "-m", strconv.Itoa(memoryMB))
	}
	if c.Huge {
		args = append(args, "--in-memory", "--single-file-segments")
	} else {
		args = append(args, "--no-huge", "--no-shconf")
	}
	for _, d := range c.Devices {
		args = append(args, "--vdev="+d)
	}
	queues, ring := strconv.Itoa(c.Queues), strconv.Itoa(c.Ring)
	topology := "paired"
	if c.Loop {
		topology = "loop"
	}
	return append(args, "--", "-i", "--nb-cores=1", "--total-num-mbufs=8192", "--forward-mode="+c.Mode,
		"--rxq="+queues, "--txq="+queues, "--rxd="+ring, "--txd="+ring, "--no-mlockall", "--no-flush-rx",
		"--port-topology="+topology)
}

// Write takes the output of the process.
func (p *Testpmd) Write(b []byte) (int, error) {
	p.mu.Lock()
	p.output.Write(b)
	p.mu.Unlock()
	select {
	case p.news <- struct{}{}:
	default:
	}
	return len(b), nil
}

// Command types a line at the prompt and returns what is printed up to the next.
func (p *Testpmd) Command(format string, args ...any) string {
	p.t.Helper()
	line := fmt.Sprintf(format, args...)
	if _, err := io.WriteString(p.stdin, line+"\n"); err != nil {
		p.fail(line, err.Error())
	}
	return p.answer(line)
}

// Forward starts forwarding.
func (p *Testpmd) Forward() {
	p.t.Helper()
	if said := p.Command("start"); !strings.Contains(said, " packet forwarding ") {
		p.fail("start", "it does not forward")
	}
}

// answer waits for the next prompt.
func (p *Testpmd) answer(to string) string {
	p.t.Helper()
	deadline := time.After(patience)
	for {
		p.mu.Lock()
		text := p.output.String()[p.seen:]
		i := strings.Index(text, prompt)
		if i >= 0 {
			p.seen += i + len(prompt)
		}
		p.mu.Unlock()
		if i >= 0 {
			return text[:i]
		}
		select {
		case <-p.news:
		case <-p.done:
			p.fail(to, "it has ended")
		case <-deadline:
			p.fail(to, "no prompt came")
		}
	}
}

func (p *Testpmd) fail(at, why string) {
	p.t.Helper()
	p.t.Fatalf("testpmd: %s: %s; it said:\n%s", at, why, p.Output())
}

// Output is all that it said so far.
func (p *Testpmd) Output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.String()
}

// Quit ends it in order: ports are stopped and closed, files are written.
func (p *Testpmd) Quit() {
	p.t.Helper()
	io.WriteString(p.stdin, "stop\nquit\n")
	select {
	case <-p.done:
	case <-time.After(patience):
		p.fail("quit", "it did not end")
	}
	if !p.cmd.ProcessState.Success() {
		p.fail("quit", p.cmd.ProcessState.String())
	}
}

// Kill ends it as a crash would.
func (p *Testpmd) Kill() {
	p.cmd.Process.Kill()
	<-p.done
}

// PortStats are the counters of one port.
type PortStats struct{ RxPackets, RxMissed, RxErrors, TxPackets, TxErrors uint64 }

// Stats reads the counters of a port.
func (p *Testpmd) Stats(port int) (s PortStats) {
	p.t.Helper()
	text := p.Command("show port stats %d", port)
	fields := strings.Fields(strings.ReplaceAll(text, ":", ": "))
	for name, into := range map[string]*uint64{
		"RX-packets:": &s.RxPackets, "RX-missed:": &s.RxMissed, "RX-errors:": &s.RxErrors,
		"TX-packets:": &s.TxPackets, "TX-errors:": &s.TxErrors,
	} {
		found := false
		for i, f := range fields[:max(len(fields)-1, 0)] {
			if f == name {
				*into, _ = strconv.ParseUint(fields[i+1], 10, 64)
				found = true
			}
		}
		if !found {
			p.fail("show port stats", "no "+name+" in "+text)
		}
	}
	return s
}

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync"

	"github.com/vhostd/vhostd/qemu-test/guestapi"
	"golang.org/x/sys/unix"
)

// operation carries out one kind of request.
type operation func(args json.RawMessage) (any, error)

// op makes an operation of a function with arguments and a result.
func op[A, R any](f func(A) (R, error)) operation {
	return func(raw json.RawMessage) (any, error) {
		var args A
		if len(raw) > 0 {
			if err := json.Unmarshal(raw, &args); err != nil {
				return nil, err
			}
		}
		return f(args)
	}
}

// nothing is the arguments or the result of what has none.
type nothing struct{}

var operations = map[string]operation{
	guestapi.OpNetUp:      op(netUp),
	guestapi.OpNetInfo:    op(netInfo),
	guestapi.OpNetOffload: op(netOffload),
	guestapi.OpNetRebind:  op(netRebind),
	guestapi.OpPing:       op(ping),
	guestapi.OpPingStart:  op(pingStart),
	guestapi.OpPingStop:   op(pingStop),
	guestapi.OpTCPListen:  op(tcpListen),
	guestapi.OpTCPAccept:  op(tcpAccept),
	guestapi.OpTCPDial:    op(tcpDial),
	guestapi.OpUDPListen:  op(udpListen),
	guestapi.OpUDPSend:    op(udpSend),
	guestapi.OpUDPWait:    op(udpWait),
	guestapi.OpRNGRead:    op(rngRead),
	guestapi.OpDiskWrite:  op(diskWrite),
	guestapi.OpDiskZero:   op(diskZero),
	guestapi.OpDiskSum:    op(diskSum),
	guestapi.OpRead:       op(readFile),
	guestapi.OpMem:        op(memory),
	guestapi.OpMemFill:    op(memoryFill),
}

// agent answers requests, each on a goroutine of its own.
type agent struct {
	port io.ReadWriter
	mu   sync.Mutex // one line at a time
}

func newAgent(port io.ReadWriter) *agent { return &agent{port: port} }

func (a *agent) serve() error {
	hello, err := greeting()
	if err != nil {
		return err
	}
	if _, err := io.WriteString(a.port, "\n"); err != nil {
		return err
	}
	a.say(hello)
	in := bufio.NewScanner(a.port)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		var r guestapi.Request
		if err := json.Unmarshal(in.Bytes(), &r); err != nil {
			continue // the tail of a line for the boot before
		}
		go a.answer(r)
	}
	return fmt.Errorf("the agent's port ended: %w", errors.Join(in.Err(), io.ErrUnexpectedEOF))
}

func greeting() (guestapi.Hello, error) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return guestapi.Hello{}, err
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return guestapi.Hello{}, err
	}
	return guestapi.Hello{
		Boot: strings.TrimSpace(string(id)), Kernel: unix.ByteSliceToString(u.Release[:]), CPUs: runtime.NumCPU(),
	}, nil
}

func (a *agent) answer(r guestapi.Request) {
	if r.Op == guestapi.OpReboot {
		a.say(guestapi.Response{ID: r.ID})
		panic(reboot()) // it does not come back
	}
	res := guestapi.Response{ID: r.ID}
	do, ok := operations[r.Op]
	if !ok {
		res.Error = fmt.Sprintf("no operation is named %q", r.Op)
		a.say(res)
		return
	}
	result, err := do(r.Args)
	if err != nil {
		res.Error = err.Error()
	} else if res.Result, err = json.Marshal(result); err != nil {
		res.Error = err.Error()
	}
	a.say(res)
}

func (a *agent) say(v any) {
	line, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, err := a.port.Write(append(line, '\n')); err != nil {
		panic(err)
	}
}

package vhost

import (
	"bytes"
	"encoding"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio"
)

// referee is a back-end that holds every message of a front-end against the
// rules of the protocol, does what it says in a model, and answers what the
// test's script wants. It serves one connection at a time.
type referee struct {
	t    testing.TB
	path string

	features virtio.Features
	protocol ProtocolFeatures
	slots    uint64
	queues   uint64
	record   uint64 // size of the in-flight record; 0: none
	base     func(ring int, sent uint32) uint32

	// script says how a message is answered; nil: as it should be.
	script func(m *message) action
	// met hears of every connection, before its first message; nil: nobody.
	met func()
	// left is waited for before a connection that ended is closed; nil: nothing.
	left chan struct{}

	mu   sync.Mutex
	past []*match
}

// action is how a message is answered; the zero value is as it should be.
type action struct {
	refuse bool   // no: an acknowledgement of 1, and nothing is done
	silent bool   // nothing is sent, and nothing done
	hangUp bool   // the connection is closed
	raw    []byte // this is sent instead
	files  int    // with so many files
}

// match is one connection of a referee.
type match struct {
	r *referee
	c *net.UnixConn

	owned    bool
	agreed   virtio.Features
	settled  bool // SET_FEATURES came
	protocol ProtocolFeatures
	told     *virtio.Features // what the script said instead of the truth
	status   uint8
	regions  []sharedRegion
	rings    map[uint32]*refRing
	recorded []sentRecord
	channel  *wire
	config   []byte
	log      []string // what came, oldest first
	faults   []string
	over     bool
}

// sentRecord is an in-flight record that was set.
type sentRecord struct {
	Inflight
	file memtable.FileID
}

// refRing is a ring of the model.
type refRing struct {
	num, base        uint32
	addr             VringAddr
	sized, placed    bool
	based            bool
	running, enabled bool
	kick, call, err  int
}

// everything is what a back-end can offer that a front-end could wrongly take.
const everything = ^ProtocolFeatures(0)

// newReferee listens until the test ends. It offers all protocol features but
// what is in without, and what edits change.
func newReferee(t testing.TB, without ProtocolFeatures, edits ...func(r *referee)) *referee {
	t.Helper()
	r := &referee{
		t: t, path: t.TempDir() + "/r",
		features: virtio.FeatureVersion1 | virtio.FeatureProtocol | virtio.FeatureIndirect | virtio.FeatureLogAll | virtio.FeatureRingReset,
		protocol: everything &^ without, slots: 32, queues: 4, record: 4096,
	}
	for _, edit := range edits {
		edit(r)
	}
	l, err := Listen(r.path, ListenOptions{UID: -1, GID: -1})
	ok(t, err)
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := l.AcceptUnix()
			if err != nil {
				return
			}
			r.play(c)
		}
	})
	t.Cleanup(func() {
		l.Close()
		if m := r.last(); m != nil {
			m.c.Close()
		}
		within(t, "the referee's end", running.Wait)
		for _, m := range r.past {
			for _, f := range m.faults {
				t.Errorf("the front-end broke a rule: %s", f)
			}
		}
	})
	return r
}

// play serves one connection.
func (r *referee) play(c *net.UnixConn) {
	m := &match{r: r, c: c, rings: make(map[uint32]*refRing), config: make([]byte, 64)}
	for i := range m.config {
		m.config[i] = byte(i)
	}
	r.mu.Lock()
	r.past = append(r.past, m)
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		m.over = true
		for _, ring := range m.rings {
			ring.close()
		}
		if m.channel != nil {
			m.channel.c.Close()
		}
		c.Close()
	}()
	if r.met != nil {
		r.met()
	}
	if r.left != nil {
		defer func() { <-r.left }()
	}
	w := newWire(c, testTimeout)
	for {
		msg, err := w.read()
		if err != nil {
			return
		}
		var a action
		r.mu.Lock()
		script := r.script
		r.mu.Unlock()
		if script != nil {
			a = script(msg)
		}
		if !m.answer(w, msg, a) {
			msg.fds.Close()
			return
		}
	}
}

// answer does what a message says, or what the script wants.
func (m *match) answer(w *wire, msg *message, a action) bool {
	m.r.mu.Lock()
	m.log = append(m.log, describeSent(msg))
	m.rules(msg)
	var reply encoding.BinaryAppender
	var fd = -1
	if a.raw == nil && !a.refuse && !a.silent && !a.hangUp || a.passes(msg) {
		reply, fd = m.do(msg)
	}
	if Request(msg.Request) == GetFeatures && len(a.raw) == headerBytes+8 {
		m.told = new(virtio.Features(order.Uint64(a.raw[headerBytes:])))
	}
	m.r.mu.Unlock()
	defer closeFD(fd)
	switch {
	case a.hangUp:
		return false
	case a.silent:
		return true
	case a.raw != nil:
		return m.sendRaw(a)
	case a.refuse:
		reply = U64(1)
	}
	if reply == nil || !m.replies(msg) {
		return true
	}
	b, _ := reply.AppendBinary(nil)
	var fds []int
	if fd >= 0 {
		fds = append(fds, fd)
	}
	return w.write(msg.Request, flagVersion|flagReply, b, fds...) == nil
}

// replies says whether an answer is due.
func (m *match) replies(msg *message) bool {
	i, _ := Request(msg.Request).info()
	return i.answer == replied || msg.needReply()
}

// passes says whether what is sent instead of an answer may be taken for one: then
// the front-end is right to go on, and so must the model.
func (a action) passes(msg *message) bool {
	r := Request(msg.Request)
	if i, _ := r.info(); i.answer == replied {
		return a.raw != nil
	}
	return a.files == 0 && bytes.Equal(a.raw, packet(r, flagVersion|flagReply, make([]byte, 8)))
}

// sendRaw sends what the script wants, with files if it does.
func (m *match) sendRaw(a action) bool {
	if a.files == 0 {
		_, err := m.c.Write(a.raw)
		return err == nil
	}
	fd, err := newEventfd()
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	_, _, err = m.c.WriteMsgUnix(a.raw, unix.UnixRights(slices.Repeat([]int{fd}, a.files)...), nil)
	return err == nil
}

// describeSent is a line of the log: "SET_VRING_NUM ring 0: 16".
func describeSent(m *message) string {
	d := detail(m)
	if d == "" {
		return Request(m.Request).String()
	}
	return Request(m.Request).String() + " " + d
}

// follow changes the script.
func (r *referee) follow(script func(m *message) action) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.script = script
}

// last is the connection that came last; nil: none did.
func (r *referee) last() *match {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.past) == 0 {
		return nil
	}
	return r.past[len(r.past)-1]
}

// look reads the model of the last connection.
func (r *referee) look(do func(m *match)) {
	m := r.last()
	r.mu.Lock()
	defer r.mu.Unlock()
	do(m)
}

// log is what came over the last connection.
func (r *referee) log() (log []string) {
	r.look(func(m *match) { log = slices.Clone(m.log) })
	return log
}

// table is what the front-end has shared over the last connection.
func (r *referee) table() (regions []sharedRegion) {
	r.look(func(m *match) { regions = slices.Clone(m.regions) })
	return regions
}

func (m *match) fault(format string, args ...any) {
	m.faults = append(m.faults, fmt.Sprintf(format, args...))
}

func (g *refRing) close() {
	for _, fd := range []*int{&g.kick, &g.call, &g.err} {
		closeFD(*fd)
		*fd = -1
	}
}

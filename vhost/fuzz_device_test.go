package vhost

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio"
)

// What the devices of FuzzServer offer, as numbers.
const (
	fuzzFeatures       = featureLogAll | featureIndirect | featureEventIdx | featureProtocol | featureVersion1 | featureInOrder
	fuzzNetFeatures    = 1<<3 | 1<<15
	fuzzProtocol       = 1<<0 | protocolLogSHMFD | protocolReplyAck | protocolChannel | 1<<13 | 1<<15 | 1<<16
	fuzzNetProtocol    = fuzzProtocol | 1<<2 | 1<<4
	fuzzConfigProtocol = fuzzProtocol | 1<<9
)

// stepper is a Runner whose one worker is whoever calls turn: what a schedule
// does, it does in the same order every time. Like the real one it looks at a
// ring when that was kicked, woken, or is looked at by the clock.
type stepper struct {
	domain memtable.Domain
	reader *memtable.Reader

	mu    sync.Mutex // held while a job is served: Detach waits for it
	jobs  []*Job
	woken sync.Map // of *Job
}

func newStepper() *stepper {
	s := new(stepper)
	s.reader = s.domain.Join("schedule")
	return s
}

func (s *stepper) Domain() *memtable.Domain { return &s.domain }

func (s *stepper) Attach(j *Job) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.jobs = append(s.jobs, j)
	s.Wake(j)
	return nil
}

func (s *stepper) Detach(_ context.Context, j *Job) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, o := range s.jobs {
		if o == j {
			s.jobs = append(s.jobs[:i:i], s.jobs[i+1:]...)
			s.woken.Delete(j)
			return nil
		}
	}
	return errors.New("a job was detached that was not attached")
}

func (s *stepper) Wake(j *Job) { s.woken.Store(j, true) }

// turn serves all jobs that have a reason, until none has.
func (s *stepper) turn() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, j := range s.jobs {
		w, err := j.waiter()
		if err != nil {
			return fmt.Errorf("an attached job is closed: %w", err)
		}
		_, woken := s.woken.LoadAndDelete(j)
		kicked := w.collect(uintptr(w.epfd))
		if !woken && !kicked && !w.poll.Load() {
			continue
		}
		for looks := 0; j.Serve(s.reader); looks++ {
			if looks > 1<<17 {
				return fmt.Errorf("ring %d is never done", j.Queue.Index())
			}
		}
	}
	return nil
}

// fuzzDevice has four rings: a network device moves frames from rings 1 and 3
// to 0 and 2, another fills what it is given and has a config space.
type fuzzDevice struct {
	net bool
	m   *model // nil: the schedule does not know when rings are served

	mu      sync.Mutex
	session *Session
	opened  int
	closed  int
	viewed  [4]bool // rings that have a view, as the watcher hears it
	wrong   error   // what must not be
	allowed []area  // where the turn may write
	fill    byte
	config  [64]byte
}

func (d *fuzzDevice) Spec() Spec {
	if d.net {
		return Spec{ID: virtio.Net, Features: fuzzNetFeatures, Queues: 4, QueueMax: 32, Shared: func(i int) bool { return i%2 == 0 }}
	}
	return Spec{ID: virtio.Entropy, Queues: 4, QueueMax: 32}
}

func (d *fuzzDevice) Open(s *Session) (Handler, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.session, d.viewed = s, [4]bool{}
	d.opened++
	if d.net {
		return &fuzzNet{fuzzHandler{d}, [4]virtio.Burst{}}, nil
	}
	return &fuzzHandler{d}, nil
}

func (d *fuzzDevice) ReadConfig(p []byte, off int64) (int, error) {
	if off > int64(len(d.config)) {
		return 0, errors.New("there is no config space")
	}
	return copy(p, d.config[off:]), nil
}

func (d *fuzzDevice) WriteConfig(p []byte, off int64) (int, error) {
	if off > 32 {
		return 0, errors.New("read-only")
	}
	return copy(d.config[off:32], p), nil
}

// must keeps the first thing that must not be.
func (d *fuzzDevice) must(ok bool, what string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !ok && d.wrong == nil {
		d.wrong = errors.New(what)
	}
}

// trouble is what must kept.
func (d *fuzzDevice) trouble() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.wrong
}

// current is the session that was opened last.
func (d *fuzzDevice) current() *Session {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.session
}

// chainsTaken is called before anything is written: what rings and tables say
// now is what the chains were made of.
func (d *fuzzDevice) chainsTaken() {
	if d.m != nil {
		d.allowed = append(d.allowed, d.m.allowed()...)
		d.fill = d.fill*5 + 1
	}
}

// write fills p so that neighbours differ from each other and from zeros.
func (d *fuzzDevice) write(p []byte) {
	for i := range p {
		p[i] = d.fill | 1
	}
}

// fuzzHandler fills all chains of its rings.
type fuzzHandler struct{ d *fuzzDevice }

func (h *fuzzHandler) Serve(q *virtio.Queue) error {
	h.d.may(q)
	n := 0
	for c := range q.Chains() {
		h.d.chainsTaken()
		sum := byte(0)
		for _, p := range c.Readable() {
			for _, b := range p {
				sum += b
			}
		}
		room := 0
		for _, p := range c.Writable() {
			h.d.write(p)
			room += len(p)
		}
		if sum&1 == 0 {
			c.Done(room)
		}
		if n++; n == 3 {
			break // what is left is seen again at once
		}
	}
	return nil
}

// may fails the schedule when ring q cannot be served, by what was agreed.
func (d *fuzzDevice) may(q *virtio.Queue) {
	if d.m == nil {
		return
	}
	r := &d.m.rings[q.Index()]
	_, _, _, ok := d.m.placed(r)
	d.must(ok, "a ring is served that was not started or has no memory")
	d.must(r.enabled == q.View().Enabled, "a ring is served by an enable that is out of date")
}

func (h *fuzzHandler) RingChanged(i int, v *virtio.View) {
	h.d.must(v != nil || h.d.viewed[i], "a ring was stopped twice")
	h.d.viewed[i] = v != nil
}

func (h *fuzzHandler) Close() error {
	h.d.must(h.d.viewed == [4]bool{}, "the handler was closed before its rings")
	h.d.mu.Lock()
	h.d.closed++
	h.d.mu.Unlock()
	return nil
}

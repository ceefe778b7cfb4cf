package vhost

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio"
)

// view is what workers shall see of ring r: a function of all that the peer
// has said. nil: nothing, and missing says why when the ring is started.
func (s *Session) view(r *vring) (v *virtio.View, missing error) {
	switch {
	case !r.started():
		return nil, nil
	case r.size == 0:
		return nil, errors.New("no SET_VRING_NUM came for it")
	case !r.located:
		return nil, errors.New("no SET_VRING_ADDR came for it")
	}
	ring, err := s.memory.ring(r.addr, r.size)
	if err != nil {
		return nil, err
	}
	record := s.record(r.queue.Index())
	if record != nil && record.Size() < r.size {
		return nil, fmt.Errorf("it has %d descriptors, and the in-flight record is for %d: ask for another (GET_INFLIGHT_FD)", r.size, record.Size())
	}
	v = &virtio.View{
		Ring: ring, Features: s.Features(), Mem: s.memory.byGPA, Inflight: record,
		Call: r.call, Enabled: r.enabled,
	}
	if s.dirty != nil && v.Features.Has(virtio.FeatureLogAll) {
		v.Log, v.Unlogged = s.dirty, s.shortLog(s.dirty)
		v.LogUsed = r.addr.Flags&VringLog != 0
		v.UsedLog = memtable.GPA(r.addr.Log)
	}
	return v, nil
}

// apply makes every ring what the state says. When it returns nil no worker
// uses anything that the state does not name any more: whatever the message
// took away may now be acknowledged, unmapped or closed. Its errors are fatal.
func (s *Session) apply() error {
	late := false
	var stopped []*vring
	for _, r := range s.rings {
		v, missing := s.view(r)
		s.note(r, missing)
		old, broken := r.current()
		if broken != nil {
			v = nil
		}
		if sameView(old, v) {
			continue
		}
		if v != nil && r.phase != ringRunning {
			err := r.place(v)
			switch {
			case errors.Is(err, virtio.ErrRecord):
				s.breakRing(r, err)
				continue
			case err != nil:
				return fatal(err)
			}
		}
		if v == nil {
			stopped = append(stopped, r)
		} else {
			s.changed(r, v)
		}
		late = r.configure(v) || late
		if r.job != nil && v != nil {
			s.runner.Wake(r.job)
		}
	}
	if late {
		if err := s.wait(); err != nil {
			return fatal(err)
		}
	}
	for _, r := range stopped {
		s.changed(r, nil)
	}
	return nil
}

// note keeps why ring r has no memory, and tells the driver's side once.
func (s *Session) note(r *vring, missing error) {
	if missing != nil && r.missing == nil {
		s.log(slog.LevelWarn, "ring has no memory", "ring", r.queue.Index(), "error", missing)
		r.err.Ring()
	}
	r.missing = missing
}

// changed tells the handler of ring r's new view.
func (s *Session) changed(r *vring, v *virtio.View) {
	r.told = v != nil
	if s.can.watcher != nil {
		s.unlocked(func() { s.can.watcher.RingChanged(r.queue.Index(), v) })
	}
}

// wait returns nil when every worker has left the section it was in: nobody
// sees what was configured before. Other sessions may share the domain, and
// every session waits for the workers of all. Whose worker is late for the
// timeout is failed; who is not goes on waiting, for as long as the session
// lives, and its front-end gets its answer later.
func (s *Session) wait() (err error) {
	s.unlocked(func() {
		for {
			err = s.waitOnce(s.ctx)
			late, ok := errors.AsType[*memtable.LateError](err)
			if !ok || s.ctx.Err() != nil {
				return
			}
			s.log(slog.LevelWarn, "a change waits for workers that are late", "error", late)
			for _, o := range late.Owners {
				if owner, ok := o.(Owner); ok {
					owner.Fail(late) // perhaps this session: then it waits no longer
				}
			}
		}
	})
	return err
}

// waitOnce waits for the timeout at most.
func (s *Session) waitOnce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	return s.runner.Domain().Wait(ctx)
}

// start makes ring r run: from here on it is looked at, whether a kick comes
// or not (vhost-user, SET_VRING_KICK). It takes the kick file.
func (s *Session) start(r *vring, fd int) error {
	job, err := s.newJob(r, fd)
	if err != nil {
		return err
	}
	r.phase, r.missing = ringWaiting, nil
	r.heal() // maybe broken while it was stopped
	if err := s.apply(); err != nil {
		if job != nil {
			_ = job.Close() // it was never attached
		}
		return err
	}
	if job != nil {
		if err := s.attach(r, job); err != nil {
			return err
		}
	}
	s.tellConfig()
	return nil
}

// newJob makes the job of ring r, woken by fd, which it takes; nil: a shared
// ring has none.
func (s *Session) newJob(r *vring, fd int) (*Job, error) {
	if r.shared {
		return nil, ignoreKick(fd)
	}
	job := &Job{
		Name: fmt.Sprintf("%s queue %d", s.name, r.queue.Index()), Owner: s,
		Queue: r.queue, Handler: s.handler, Broken: func(err error) { s.breakRing(r, err) },
	}
	if err := job.SetKick(fd, fd < 0); err != nil {
		_ = job.Close() // it was never attached
		return nil, err
	}
	return job, nil
}

// attach gives ring r's job to a worker, which looks at the ring at once.
func (s *Session) attach(r *vring, job *Job) error {
	if err := s.runner.Attach(job); err != nil {
		_ = job.Close()
		return fatal(fmt.Errorf("ring %d: %w", r.queue.Index(), err))
	}
	r.job = job
	return nil
}

// stop stops rings: when it returns nil no worker is in them, what was used is
// published, and their kick files are closed. For a ring that is not started it
// changes nothing.
func (s *Session) stop(rings ...*vring) error {
	for _, r := range rings {
		r.halt()
	}
	if err := s.apply(); err != nil {
		return err
	}
	for _, r := range rings {
		if err := s.detach(s.ctx, r); err != nil {
			return fatal(err)
		}
		r.base, r.phase = r.position(), ringStopped
		r.heal()
		r.kickFD = -1
	}
	return nil
}

// detach takes ring r's job from its worker.
func (s *Session) detach(ctx context.Context, r *vring) (err error) {
	if r.job == nil {
		return nil
	}
	s.unlocked(func() {
		ctx, cancel := context.WithTimeout(ctx, s.timeout)
		defer cancel()
		err = s.runner.Detach(ctx, r.job)
	})
	if err != nil {
		return err
	}
	job := r.job
	r.job = nil
	r.kicks += job.Kicks()
	return job.Close()
}

// running says whether any ring has been used since it was started.
func (s *Session) running() bool {
	for _, r := range s.rings {
		if r.phase == ringRunning {
			return true
		}
	}
	return false
}

// suspended says whether all rings are stopped: then nothing is sent to the
// front-end but replies (vhost-user, "Suspended device state").
func (s *Session) suspended() bool {
	for _, r := range s.rings {
		if r.started() {
			return false
		}
	}
	return true
}

// breakRing gives ring r up for a worker; its siblings live.
func (s *Session) breakRing(r *vring, err error) {
	if r.fail(err) {
		s.log(slog.LevelWarn, "ring is broken until the driver resets it", "ring", r.queue.Index(), "error", err)
	}
}

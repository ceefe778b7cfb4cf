package vhost

import (
	"errors"
	"fmt"
	"math"

	"github.com/vhostd/vhostd/virtio"
)

// errRunning refuses what may only be said of a stopped ring.
var errRunning = errors.New("the ring is running: stop it first (GET_VRING_BASE)")

// ring gives the ring with number i.
func (s *Session) ring(i uint32) (*vring, error) {
	if uint64(i) >= uint64(len(s.rings)) {
		return nil, fmt.Errorf("ring %d of a device with %d", i, len(s.rings))
	}
	return s.rings[i], nil
}

// ringState decodes the payload that most ring messages share.
func (s *Session) ringState(m *message) (*vring, uint32, error) {
	state, err := decode[VringState](m)
	if err != nil {
		return nil, 0, err
	}
	r, err := s.ring(state.Index)
	return r, state.Num, err
}

func (s *Session) setVringNum(m *message) (payload, error) {
	r, n, err := s.ringState(m)
	switch {
	case err != nil:
		return nil, err
	case n == 0 || n > s.spec.queueMax() || n&(n-1) != 0:
		return nil, fmt.Errorf("ring of %d descriptors: it must be a power of two up to %d", n, s.spec.queueMax())
	case r.phase == ringRunning:
		return nil, errRunning
	}
	r.size = uint16(n)
	return nil, s.apply()
}

func (s *Session) setVringBase(m *message) (payload, error) {
	r, n, err := s.ringState(m)
	switch {
	case err != nil:
		return nil, err
	case n > math.MaxUint16:
		return nil, fmt.Errorf("base %#x: the index of a split ring has 16 bits", n)
	case r.phase == ringRunning:
		return nil, errRunning
	}
	r.base = virtio.Position(n)
	return nil, nil
}

// setVringAddr tells where the ring lies, in the front-end's addresses. It
// comes again for a running ring when its logging begins or ends.
func (s *Session) setVringAddr(m *message) (payload, error) {
	a, err := decode[VringAddr](m)
	if err != nil {
		return nil, err
	}
	r, err := s.ring(a.Index)
	if err != nil {
		return nil, err
	}
	// virtio 1.2, 2.7: alignments of the three parts.
	if a.Desc%16 != 0 || a.Avail%2 != 0 || a.Used%4 != 0 {
		return nil, fmt.Errorf("ring %d: descriptor table %#x, available ring %#x, used ring %#x: they must be multiples of 16, 2 and 4",
			a.Index, uint64(a.Desc), uint64(a.Avail), uint64(a.Used))
	}
	if r.phase == ringRunning && (a.Desc != r.addr.Desc || a.Avail != r.addr.Avail || a.Used != r.addr.Used) {
		return nil, errRunning
	}
	r.addr, r.located = a, true
	return nil, s.apply()
}

// getVringBase stops the ring and says where it was: at the first chain that
// was not given back.
func (s *Session) getVringBase(m *message) (payload, error) {
	r, _, err := s.ringState(m)
	if err != nil {
		return nil, err
	}
	if err := s.stop(r); err != nil {
		return nil, err
	}
	if err := s.setBell(r.call, &r.callFD, -1); err != nil {
		return nil, fatal(err)
	}
	return VringState{uint32(r.queue.Index()), uint32(r.position())}, nil
}

// ringFile decodes a message that gives a ring a file, or says that there is
// none (-1). The file is the caller's.
func (s *Session) ringFile(m *message) (*vring, int, error) {
	v, err := decode[VringFD](m)
	if err != nil {
		return nil, -1, err
	}
	r, err := s.ring(uint32(v.Index))
	if err != nil || v.NoFD {
		return r, -1, err // a file that came all the same is closed with the message
	}
	fd, err := m.fds.Take(0)
	return r, fd, err
}

// setVringKick starts the ring. For one that runs it changes what wakes it.
func (s *Session) setVringKick(m *message) (payload, error) {
	r, fd, err := s.ringFile(m)
	if err != nil {
		return nil, err
	}
	if r.started() {
		err = s.rekick(r, fd)
	} else {
		err = s.start(r, fd)
	}
	if err != nil {
		return nil, err
	}
	r.kickFD = fd
	if r.shared {
		r.kickFD = -1
	}
	// The ring comes to life with its memory; who listens hears that it has none.
	if r.missing != nil {
		return nil, mildError{r.missing}
	}
	return nil, nil
}

// rekick changes the kick file of a ring that runs; the session takes fd.
func (s *Session) rekick(r *vring, fd int) error {
	if r.shared {
		return ignoreKick(fd)
	}
	return r.job.SetKick(fd, fd < 0)
}

// ignoreKick checks and closes the kick of a shared ring: who fills it looks by
// himself.
func ignoreKick(fd int) error {
	if fd < 0 {
		return nil
	}
	defer closeFD(fd)
	return checkEventfd(fd)
}

// setVringCall changes where completions are told, at any time; what completed
// before a file came is told when it comes.
//
// What was told to the file before may never have reached the driver: QEMU gives
// a ring one file at connect and another after SET_VRING_KICK, and in between
// discards what the first was told. With EVENT_IDX no later chain would bring
// that call again, so the new file is told once more. One too many does no harm.
func (s *Session) setVringCall(m *message) (payload, error) {
	r, fd, err := s.ringFile(m)
	if err != nil {
		return nil, err
	}
	if err := s.setBell(r.call, &r.callFD, fd); err != nil {
		return nil, err
	}
	if rings, _ := r.call.Counts(); fd >= 0 && rings > 0 && r.started() {
		r.call.Ring()
	}
	return nil, nil
}

func (s *Session) setVringErr(m *message) (payload, error) {
	r, fd, err := s.ringFile(m)
	if err != nil {
		return nil, err
	}
	return nil, s.setBell(r.err, &r.errFD, fd)
}

// setBell changes the file of a ring's doorbell, and its number for Info. A peer
// that blocks the old file holds up its own session, not who asks how it is
// doing.
func (s *Session) setBell(d *doorbell, number *int, fd int) (err error) {
	s.unlocked(func() { err = d.Set(fd) })
	if err == nil {
		*number = fd
	}
	return err
}

// setVringEnable remembers, also for rings that are not configured and before
// features are agreed on: QEMU sends it then for network devices.
func (s *Session) setVringEnable(m *message) (payload, error) {
	r, n, err := s.ringState(m)
	if err != nil {
		return nil, err
	}
	if n > 1 {
		return nil, fmt.Errorf("SET_VRING_ENABLE with %d: it must be 0 or 1", n)
	}
	r.enabled = n == 1
	return nil, s.apply()
}

// setOwner begins a session; a connection is one already.
func (s *Session) setOwner(*message) (payload, error) { return nil, nil }

// resetOwner is deprecated: it disables the rings and drops nothing.
func (s *Session) resetOwner(*message) (payload, error) {
	for _, r := range s.rings {
		r.enabled = false
	}
	return nil, s.apply()
}

// resetDevice brings the device back to where it was at connect, as far as the
// driver can tell: rings stopped, disabled and healed, status 0. Memory,
// features, the channel, call and error files stay: QEMU sends none of them
// again.
func (s *Session) resetDevice(*message) (payload, error) {
	if err := s.stop(s.rings...); err != nil {
		return nil, err
	}
	for _, r := range s.rings {
		r.enabled = false
		r.forget()
	}
	s.status = 0
	if s.can.resetter != nil {
		s.unlocked(s.can.resetter.Reset)
	}
	// The driver has given up what was in flight.
	return nil, s.setInflight(nil)
}

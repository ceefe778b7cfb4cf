package vhost

import (
	"sync"
	"time"

	"github.com/vhostd/vhostd/virtio"
)

// FrontendInfo is a snapshot of a front-end, for people and monitors.
type FrontendInfo struct {
	Connected   bool
	Peer        string    // "pid 123 uid 0", of this connection or of the last
	Since       time.Time // it is connected, or lost
	Connections uint64    // there have been
	Failed      string    // why there is no connection; "": there is
	Offered     virtio.Features
	Protocol    ProtocolFeatures // agreed on
	Queues      int
	Share       ShareStats
	Messages    []MessageInfo // the last ones, oldest first
}

// shown is what Info tells, for several goroutines.
type shown struct {
	mu       sync.Mutex
	info     FrontendInfo
	since    time.Time
	messages history
}

func (s *shown) message(m *message, err error) {
	r := "ok"
	if err != nil {
		r = err.Error()
	}
	d := describe(m)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.messages.add(Request(m.Request), d, r)
}

func (s *shown) connected(l *peerLink) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.since = l.since
	s.info.Connected, s.info.Peer, s.info.Failed = true, l.peer, ""
	s.info.Offered, s.info.Protocol = l.offered, l.protocol
	s.info.Connections++
}

func (s *shown) disconnected(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.since, s.info.Connected, s.info.Failed = time.Now(), false, err.Error()
}

func (s *shown) failed(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.info.Failed = err.Error()
}

// Info tells how the front-end is doing. It waits for no back-end.
func (f *Frontend) Info() FrontendInfo {
	f.shown.mu.Lock()
	i := f.shown.info
	i.Since, i.Messages = f.shown.since, f.shown.messages.list()
	f.shown.mu.Unlock()
	i.Queues = f.queues
	f.share.stats.edit(func(s *ShareStats) { i.Share = *s })
	return i
}

package vhost

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/vhostd/vhostd/virtio"
)

// Each front-end has an order of its own; all of them end in a ring that runs.
func TestServerServesARingInAnyOrderOfMessages(t *testing.T) {
	for name, start := range map[string]func(t *testing.T, c *Conn, g *guest){
		"QEMU net: enable first, call last": func(t *testing.T, c *Conn, g *guest) {
			_, err := c.GetProtocolFeatures()
			ok(t, err)
			ok(t, c.SetProtocolFeatures(ProtocolReplyAck|ProtocolMemSlots))
			ok(t, c.SetOwner())
			ok(t, c.SetVringEnable(0, true))
			ok(t, c.SetVringEnable(1, false))
			ok(t, c.SetFeatures(virtio.FeatureVersion1|virtio.FeatureProtocol))
			ok(t, c.AddMemReg(g.region, g.fd))
			ok(t, c.AddMemReg(g.region, g.fd)) // 7.2: once per pair
			ok(t, c.SetVringNum(0, ringSize))
			ok(t, c.SetVringBase(0, 0))
			ok(t, c.SetVringAddr(g.addr(0)))
			ok(t, c.SetVringKick(0, g.kick))
			ok(t, c.SetVringCall(0, g.call))
		},
		"cloud-hypervisor: address before base": func(t *testing.T, c *Conn, g *guest) {
			ok(t, c.SetOwner())
			ok(t, c.SetProtocolFeatures(ProtocolReplyAck))
			ok(t, c.SetFeatures(virtio.FeatureVersion1|virtio.FeatureProtocol))
			ok(t, c.SetMemTable([]MemRegion{g.region}, []int{g.fd}))
			ok(t, c.SetVringNum(0, ringSize))
			ok(t, c.SetVringAddr(g.addr(0)))
			ok(t, c.SetVringBase(0, 0))
			ok(t, c.SetVringCall(0, g.call))
			ok(t, c.SetVringKick(0, g.kick))
			ok(t, c.SetVringEnable(0, true))
		},
		"no protocol features: all rings are enabled": func(t *testing.T, c *Conn, g *guest) {
			ok(t, c.SetFeatures(virtio.FeatureVersion1))
			ok(t, c.SetMemTable([]MemRegion{g.region}, []int{g.fd}))
			ok(t, c.SetVringNum(0, ringSize))
			ok(t, c.SetVringAddr(g.addr(0)))
			ok(t, c.SetVringKick(0, g.kick))
			ok(t, c.SetVringCall(0, g.call))
		},
		"memory last": func(t *testing.T, c *Conn, g *guest) {
			ok(t, c.SetProtocolFeatures(ProtocolReplyAck))
			ok(t, c.SetFeatures(virtio.FeatureVersion1|virtio.FeatureProtocol))
			ok(t, c.SetVringErr(0, g.err))
			ok(t, c.SetVringNum(0, ringSize))
			ok(t, c.SetVringAddr(g.addr(0)))
			refusedBy(t, c, c.SetVringKick(0, g.kick))
			eventually(t, "the error eventfd tells", func() bool { return signals(g.err) == 1 })
			ok(t, c.SetVringEnable(0, true))
			ok(t, c.SetVringCall(0, g.call))
			ok(t, c.SetMemTable([]MemRegion{g.region}, []int{g.fd}))
		},
		"no kick file: the ring is polled": func(t *testing.T, c *Conn, g *guest) {
			ok(t, c.SetFeatures(virtio.FeatureVersion1))
			ok(t, c.SetMemTable([]MemRegion{g.region}, []int{g.fd}))
			ok(t, c.SetVringNum(0, ringSize))
			ok(t, c.SetVringAddr(g.addr(0)))
			ok(t, c.SetVringCall(0, g.call))
			ok(t, c.SetVringKick(0, -1))
		},
	} {
		t.Run(name, func(t *testing.T) {
			noLeaks(t)
			g := newGuest(t, 0x10000)
			c, ended := serve(t, &Server{Device: newFiller(twoRings)})
			start(t, c, g)
			for range 3 * ringSize {
				g.filled(t)
			}
			eventually(t, "a call", func() bool { return signals(g.call) > 0 })
			c.Close()
			if err := dies(t, ended); err != nil {
				t.Errorf("the peer left, but the session says %v", err)
			}
		})
	}
}

func TestServerReplacesASessionOnlyByAConnectionThatSpeaks(t *testing.T) {
	noLeaks(t)
	device := newFiller(twoRings)
	path := listenAndServe(t, &Server{Device: device, Timeout: testTimeout})
	first := dial(t, path)
	lives(t, first)

	silent := dial(t, path) // who looks whether somebody listens
	silent.Close()
	dial(t, path) // who waits for his turn
	lives(t, first)

	second := dial(t, path)
	lives(t, second)
	closedBy(t, first)
	if len(device.closed) == 0 {
		t.Error("the new one was answered before the old one had ended")
	}
}

func TestServerServesWhoWaitedOnceTheSeatIsFree(t *testing.T) {
	noLeaks(t)
	path := listenAndServe(t, &Server{Device: newFiller(twoRings)})
	first := dial(t, path)
	lives(t, first)
	waiting := dial(t, path)
	first.Close()
	lives(t, waiting)
}

// lineCounter counts log lines.
type lineCounter struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lineCounter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lineCounter) lines() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Count(l.b.Bytes(), []byte("\n"))
}

func TestServerSurvivesAStormOfConnects(t *testing.T) {
	noLeaks(t)
	var log lineCounter
	device := newFiller(twoRings)
	path := listenAndServe(t, &Server{Device: device, Log: slog.New(slog.NewTextHandler(&log, nil))})
	for range 1000 {
		c, err := DialConn(t.Context(), path, testTimeout)
		ok(t, err)
		_, _ = c.GetFeatures() // the server may have too many at a time
		c.Close()
		for len(device.opened) > 0 {
			<-device.opened
		}
		for len(device.closed) > 0 {
			<-device.closed
		}
	}
	eventually(t, "one more is served", func() bool {
		c := dial(t, path)
		_, err := c.GetFeatures()
		return err == nil
	})
	if n := log.lines(); n > 10*quietBurst {
		t.Errorf("%d lines were logged", n)
	}
}

func TestQuietTellsHowMuchItDidNotSay(t *testing.T) {
	q := newQuiet(nil)
	now := time.Now()
	for i := range 100 {
		if _, said := q.admit("m", now); said != (i < quietBurst) {
			t.Fatalf("line %d: %v", i, said)
		}
	}
	if _, said := q.admit("other", now); !said {
		t.Error("one message silenced another")
	}
	if n, said := q.admit("m", now.Add(quietWindow)); !said || n != 100-quietBurst {
		t.Errorf("after the window: %v, %d suppressed", said, n)
	}
}

func TestDialAndServeComesBack(t *testing.T) {
	noLeaks(t)
	path := t.TempDir() + "/s"
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	failed := make(chan error, 100)
	s := &Server{Device: newFiller(twoRings), Hooks: Hooks{Failed: func(err error) { failed <- err }}}
	running.Go(func() { _ = s.DialAndServe(ctx, path) })
	defer within(t, "DialAndServe's end", running.Wait)
	defer cancel()
	<-failed // nobody listens yet
	l := listen(t, path, ListenOptions{UID: -1, GID: -1})
	for range 2 {
		conn, err := l.AcceptUnix()
		ok(t, err)
		c := NewConn(conn, testTimeout)
		lives(t, c)
		c.Close()
	}
}

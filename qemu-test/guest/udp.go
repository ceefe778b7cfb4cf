package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"sync"
	"time"

	"github.com/vhostd/vhostd/qemu-test/guestapi"
)

// numberSize is the sequence number at the start of each datagram, in bytes;
// what follows is noise of the seed plus the number.
const numberSize = 8

// udpListener counts datagrams from when it is made.
type udpListener struct {
	conn *net.UDPConn
	seed uint64
	came chan struct{} // one datagram was counted; kept short

	mu   sync.Mutex
	seen map[uint64]bool
	res  guestapi.UDPResult
}

var udpListeners handles[*udpListener]

func udpListen(a guestapi.Seed) (guestapi.Listening, error) {
	c, err := net.ListenUDP("udp", nil)
	if err != nil {
		return guestapi.Listening{}, err
	}
	if err := c.SetReadBuffer(4 << 20); err != nil {
		c.Close()
		return guestapi.Listening{}, err
	}
	l := &udpListener{conn: c, seed: a.Seed, came: make(chan struct{}, 1), seen: make(map[uint64]bool)}
	go l.receive()
	return guestapi.Listening{Handle: udpListeners.add(l), Port: c.LocalAddr().(*net.UDPAddr).Port}, nil
}

func (l *udpListener) receive() {
	buf, want := make([]byte, 1<<16), make([]byte, 1<<16)
	for {
		n, err := l.conn.Read(buf)
		if errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrClosed) {
			return
		}
		if err == nil {
			l.count(buf[:n], want)
		}
		select {
		case l.came <- struct{}{}:
		default:
		}
	}
}

func (l *udpListener) count(p, want []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(p) < numberSize {
		l.res.Damaged++
		return
	}
	n := binary.BigEndian.Uint64(p)
	want = want[:len(p)-numberSize]
	guestapi.NewNoise(l.seed + n).Read(want)
	switch {
	case !bytes.Equal(p[numberSize:], want):
		l.res.Damaged++
	case l.seen[n]:
		l.res.Duplicates++
	default:
		l.seen[n] = true
		l.res.Datagrams++
	}
}

func udpWait(a guestapi.UDPWait) (guestapi.UDPResult, error) {
	l, err := udpListeners.take(a.Handle)
	if err != nil {
		return guestapi.UDPResult{}, err
	}
	defer l.conn.Close()
	end := time.NewTimer(time.Duration(a.Millis) * time.Millisecond)
	defer end.Stop()
	for {
		l.mu.Lock()
		res := l.res
		l.mu.Unlock()
		if res.Datagrams >= a.Count {
			return res, nil
		}
		select {
		case <-end.C:
			return res, nil
		case <-l.came:
		}
	}
}

func udpSend(a guestapi.UDPSend) (guestapi.UDPResult, error) {
	var res guestapi.UDPResult
	c, err := net.Dial("udp", a.Addr)
	if err != nil {
		return res, err
	}
	defer c.Close()
	p := make([]byte, max(a.Size, numberSize))
	for n := range a.Count {
		binary.BigEndian.PutUint64(p, uint64(n))
		guestapi.NewNoise(a.Seed + uint64(n)).Read(p[numberSize:])
		if _, err := c.Write(p); err != nil {
			return res, err
		}
		res.Datagrams++
		if a.Interval > 0 {
			time.Sleep(time.Duration(a.Interval) * time.Microsecond)
		}
	}
	return res, nil
}

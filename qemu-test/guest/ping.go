package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vhostd/vhostd/qemu-test/guestapi"
)

// An echo message (RFC 792, RFC 4443): type, code, checksum, identifier,
// sequence number, then our payload: the sequence number in 8 bytes, the time
// of sending in 8, the rest noise seeded with the sequence number.
const (
	echoHeader   = 8
	payloadStamp = 16
	requestV4    = 8
	replyV4      = 0
	requestV6    = 128
	replyV6      = 129
)

// pinger is one run of ping.
type pinger struct {
	guestapi.Ping
	conn           net.PacketConn
	to             *net.IPAddr
	id             uint16
	request, reply byte

	mu       sync.Mutex
	res      guestapi.PingResult
	answered map[uint64]bool
	total    time.Duration // of all round trips
	last     time.Time     // an answer came
	all      chan struct{} // closed when Count answers have come
}

var (
	pings  handles[*running]
	nextID atomic.Uint32
)

// running is a pinger that ping.stop ends.
type running struct {
	stop context.CancelFunc
	done chan result
}

type result struct {
	res guestapi.PingResult
	err error
}

func newPinger(a guestapi.Ping) (*pinger, error) {
	ip := net.ParseIP(a.Addr)
	if ip == nil {
		return nil, fmt.Errorf("%q is not an IP address", a.Addr)
	}
	p := &pinger{
		Ping: a, to: &net.IPAddr{IP: ip}, id: uint16(nextID.Add(1)),
		answered: make(map[uint64]bool), all: make(chan struct{}),
	}
	p.Size = max(p.Size, payloadStamp)
	if a.Size == 0 {
		p.Size = 56
	}
	if p.Interval == 0 {
		p.Interval = 10_000
	}
	if p.Wait == 0 {
		p.Wait = 1000
	}
	network := "ip6:ipv6-icmp"
	p.request, p.reply = requestV6, replyV6
	if ip.To4() != nil {
		network, p.request, p.reply = "ip4:icmp", requestV4, replyV4
	}
	var err error
	p.conn, err = net.ListenPacket(network, "")
	return p, err
}

// ping sends Count requests and waits for the answers.
func ping(a guestapi.Ping) (guestapi.PingResult, error) {
	if a.Count <= 0 {
		return guestapi.PingResult{}, errors.New("ping needs a count; ping.start does without")
	}
	p, err := newPinger(a)
	if err != nil {
		return guestapi.PingResult{}, err
	}
	return p.run(context.Background())
}

func pingStart(a guestapi.Ping) (guestapi.Handle, error) {
	p, err := newPinger(a)
	if err != nil {
		return guestapi.Handle{}, err
	}
	ctx, stop := context.WithCancel(context.Background())
	r := &running{stop, make(chan result, 1)}
	go func() {
		res, err := p.run(ctx)
		r.done <- result{res, err}
	}()
	return pings.add(r), nil
}

func pingStop(h guestapi.Handle) (guestapi.PingResult, error) {
	r, err := pings.take(h)
	if err != nil {
		return guestapi.PingResult{}, err
	}
	r.stop()
	end := <-r.done
	return end.res, end.err
}

// run sends until Count or ctx ends, then waits for the last answers.
func (p *pinger) run(ctx context.Context) (guestapi.PingResult, error) {
	p.last = time.Now()
	received := make(chan error, 1)
	go func() { received <- p.receive() }()
	tick := time.NewTicker(time.Duration(p.Interval) * time.Microsecond)
	defer tick.Stop()
	for seq := uint64(1); p.Count == 0 || seq <= uint64(p.Count); seq++ {
		p.send(seq)
		select {
		case <-tick.C:
			continue
		case <-ctx.Done():
		}
		break
	}
	wait := time.NewTimer(time.Duration(p.Wait) * time.Millisecond)
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-p.all:
	}
	p.conn.Close()
	err := <-received
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gap(time.Now())
	if p.res.Received > 0 {
		p.res.Avg = (p.total / time.Duration(p.res.Received)).Microseconds()
	}
	return p.res, err
}

// send sends one request. An error is no answer: the interface may be down for
// a while, which is what some tests are about.
func (p *pinger) send(seq uint64) {
	m := make([]byte, echoHeader+p.Size)
	m[0] = p.request
	binary.BigEndian.PutUint16(m[4:], p.id)
	binary.BigEndian.PutUint16(m[6:], uint16(seq))
	binary.BigEndian.PutUint64(m[echoHeader:], seq)
	binary.BigEndian.PutUint64(m[echoHeader+8:], uint64(time.Now().UnixNano()))
	guestapi.NewNoise(seq).Read(m[echoHeader+payloadStamp:])
	if p.request == requestV4 { // of ICMPv6 the kernel makes the checksum
		binary.BigEndian.PutUint16(m[2:], checksum(m))
	}
	p.mu.Lock()
	p.res.Sent++
	p.mu.Unlock()
	p.conn.WriteTo(m, p.to)
}

func (p *pinger) receive() error {
	buf := make([]byte, 1<<16)
	for {
		n, _, err := p.conn.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		// Every socket of this kind sees every message of the protocol.
		if m := buf[:n]; n >= echoHeader && m[0] == p.reply && binary.BigEndian.Uint16(m[4:]) == p.id {
			p.answer(m[echoHeader:])
		}
	}
}

func (p *pinger) answer(payload []byte) {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(payload) != p.Size {
		p.res.Damaged++
		return
	}
	seq := binary.BigEndian.Uint64(payload)
	want := make([]byte, p.Size-payloadStamp)
	guestapi.NewNoise(seq).Read(want)
	switch {
	case !bytes.Equal(payload[payloadStamp:], want):
		p.res.Damaged++
		return
	case p.answered[seq]:
		p.res.Duplicates++
		return
	}
	p.answered[seq] = true
	trip := now.Sub(time.Unix(0, int64(binary.BigEndian.Uint64(payload[8:]))))
	us := trip.Microseconds()
	if p.res.Received == 0 || us < p.res.Min {
		p.res.Min = us
	}
	p.res.Max = max(p.res.Max, us)
	p.total += trip
	p.res.Received++
	p.gap(now)
	if p.res.Received == p.Count {
		close(p.all)
	}
}

// gap notes the time since the last answer; mu is held.
func (p *pinger) gap(now time.Time) {
	p.res.Gap = max(p.res.Gap, now.Sub(p.last).Microseconds())
	p.last = now
}

// checksum is the Internet checksum (RFC 1071).
func checksum(b []byte) uint16 {
	var sum uint32
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

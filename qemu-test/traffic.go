package qemutest

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/vhostd/vhostd/qemu-test/guestapi"
)

// LinkUp sets a NIC of the machine up with addresses ("10.0.0.1/24").
func (m *Machine) LinkUp(ctx context.Context, mac string, mtu int, addrs ...string) (guestapi.NetInfo, error) {
	return Ask[guestapi.NetInfo](ctx, m, guestapi.OpNetUp, guestapi.NetUp{MAC: mac, Addrs: addrs, MTU: mtu})
}

// Ping pings addr count times and fails unless every answer came once.
func (m *Machine) Ping(ctx context.Context, addr string, count, size int) (guestapi.PingResult, error) {
	r, err := Ask[guestapi.PingResult](ctx, m, guestapi.OpPing,
		guestapi.Ping{Addr: addr, Count: count, Size: size, Interval: 5000, Wait: 5000})
	if err == nil && (r.Received != count || r.Damaged > 0 || r.Duplicates > 0) {
		err = fmt.Errorf("%s pings %s with %d bytes: %d sent, %d answered, %d damaged, %d twice",
			m.Name, addr, size, r.Sent, r.Received, r.Damaged, r.Duplicates)
	}
	return r, err
}

// AwaitPing pings addr until an answer comes.
func (m *Machine) AwaitPing(ctx context.Context, addr string) error {
	for {
		r, err := Ask[guestapi.PingResult](ctx, m, guestapi.OpPing, guestapi.Ping{Addr: addr, Count: 1, Wait: 250})
		if err != nil || r.Received > 0 {
			return err
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%s gets no answer from %s: %w", m.Name, addr, context.Cause(ctx))
		}
	}
}

// Transfer is a TCP connection from one machine to another, to its end.
type Transfer struct {
	Forth, Back Direction // from the one that dials; to it
}

// Direction is one direction of a transfer, as both ends saw it.
type Direction struct {
	Sent, Received guestapi.Flow
}

// MbitPerSecond is the rate at the receiver.
func (d Direction) MbitPerSecond() float64 {
	if d.Received.Micros == 0 {
		return 0
	}
	return float64(d.Received.Bytes) * 8 / float64(d.Received.Micros)
}

func (d Direction) check(way string) error {
	if d.Received.Wrong >= 0 || d.Sent.Bytes != d.Received.Bytes || d.Sent.Sum != d.Received.Sum {
		return fmt.Errorf("TCP %s: sent %d bytes (%s), received %d (%s), first wrong byte at %d",
			way, d.Sent.Bytes, d.Sent.Sum, d.Received.Bytes, d.Received.Sum, d.Received.Wrong)
	}
	return nil
}

// Load is how much a direction of a transfer sends: bytes, or for a time.
type Load struct {
	Bytes int64
	Time  time.Duration
}

// TCP opens a connection from m to addr, which is peer's, and sends forth and
// back at the same time. It fails unless every byte arrived as it was sent.
func (m *Machine) TCP(ctx context.Context, peer *Machine, addr string, forth, back Load) (*Transfer, error) {
	l, err := Ask[guestapi.Listening](ctx, peer, guestapi.OpTCPListen, nil)
	if err != nil {
		return nil, err
	}
	seed := uint64(time.Now().UnixNano())
	type end struct {
		res guestapi.StreamResult
		err error
	}
	accepted := make(chan end, 1)
	go func() {
		r, err := Ask[guestapi.StreamResult](ctx, peer, guestapi.OpTCPAccept, guestapi.TCPAccept{
			Handle: l.Handle, Stream: back.stream(seed+1, seed)})
		accepted <- end{r, err}
	}()
	d, err := Ask[guestapi.StreamResult](ctx, m, guestapi.OpTCPDial, guestapi.TCPDial{
		Addr: net.JoinHostPort(addr, strconv.Itoa(l.Port)), Stream: forth.stream(seed, seed+1)})
	if err != nil {
		return nil, err
	}
	a := <-accepted
	if a.err != nil {
		return nil, a.err
	}
	t := &Transfer{Direction{d.Sent, a.res.Received}, Direction{a.res.Sent, d.Received}}
	if err := t.Forth.check(m.Name + " to " + peer.Name); err != nil {
		return t, err
	}
	return t, t.Back.check(peer.Name + " to " + m.Name)
}

func (l Load) stream(send, receive uint64) guestapi.Stream {
	return guestapi.Stream{SendSeed: send, Bytes: l.Bytes, Millis: int(l.Time.Milliseconds()), RecvSeed: receive}
}

// UDP sends count datagrams of size bytes to addr, which is peer's, slowly
// enough for all to arrive, and fails if one did not or is damaged.
func (m *Machine) UDP(ctx context.Context, peer *Machine, addr string, count, size int) error {
	seed := uint64(time.Now().UnixNano())
	l, err := Ask[guestapi.Listening](ctx, peer, guestapi.OpUDPListen, guestapi.Seed{Seed: seed})
	if err != nil {
		return err
	}
	_, err = Ask[guestapi.UDPResult](ctx, m, guestapi.OpUDPSend, guestapi.UDPSend{
		Addr: net.JoinHostPort(addr, strconv.Itoa(l.Port)), Count: count, Size: size, Interval: 500, Seed: seed})
	if err != nil {
		return err
	}
	r, err := Ask[guestapi.UDPResult](ctx, peer, guestapi.OpUDPWait, guestapi.UDPWait{Handle: l.Handle, Count: count, Millis: 10_000})
	if err == nil && (r.Datagrams != count || r.Damaged > 0 || r.Duplicates > 0) {
		err = fmt.Errorf("UDP %s to %s, %d bytes each: %d sent, %d received, %d damaged, %d twice",
			m.Name, peer.Name, size, count, r.Datagrams, r.Damaged, r.Duplicates)
	}
	return err
}

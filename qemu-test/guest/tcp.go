package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/vhostd/vhostd/qemu-test/guestapi"
)

var listeners handles[*net.TCPListener]

// defaultTimeout is how long a stream may make no progress.
const defaultTimeout = 20 * time.Second

func tcpListen(nothing) (guestapi.Listening, error) {
	l, err := net.ListenTCP("tcp", nil)
	if err != nil {
		return guestapi.Listening{}, err
	}
	return guestapi.Listening{Handle: listeners.add(l), Port: l.Addr().(*net.TCPAddr).Port}, nil
}

func tcpAccept(a guestapi.TCPAccept) (guestapi.StreamResult, error) {
	l, err := listeners.take(a.Handle)
	if err != nil {
		return guestapi.StreamResult{}, err
	}
	defer l.Close()
	if err := l.SetDeadline(time.Now().Add(timeout(a.Stream))); err != nil {
		return guestapi.StreamResult{}, err
	}
	c, err := l.AcceptTCP()
	if err != nil {
		return guestapi.StreamResult{}, err
	}
	return stream(c, a.Stream)
}

func tcpDial(a guestapi.TCPDial) (guestapi.StreamResult, error) {
	c, err := net.DialTimeout("tcp", a.Addr, timeout(a.Stream))
	if err != nil {
		return guestapi.StreamResult{}, err
	}
	return stream(c.(*net.TCPConn), a.Stream)
}

func timeout(s guestapi.Stream) time.Duration {
	if s.Timeout > 0 {
		return time.Duration(s.Timeout) * time.Millisecond
	}
	return defaultTimeout
}

// stream runs both directions of a connection to their ends.
func stream(c *net.TCPConn, s guestapi.Stream) (guestapi.StreamResult, error) {
	defer c.Close()
	var (
		res            guestapi.StreamResult
		wg             sync.WaitGroup
		sendErr, rxErr error
	)
	wg.Go(func() { res.Sent, sendErr = send(c, s) })
	wg.Go(func() { res.Received, rxErr = receive(c, s) })
	wg.Wait()
	if err := errors.Join(sendErr, rxErr); err != nil {
		return res, fmt.Errorf("%w (sent %d bytes, received %d)", err, res.Sent.Bytes, res.Received.Bytes)
	}
	return res, nil
}

// chunk is what one write hands to the kernel, in bytes: larger than any
// segment, so that the kernel decides where segments end.
const chunk = 256 << 10

func send(c *net.TCPConn, s guestapi.Stream) (guestapi.Flow, error) {
	f := guestapi.Flow{Wrong: -1}
	sum, noise, buf := xxhash.New(), guestapi.NewNoise(s.SendSeed), make([]byte, chunk)
	start := time.Now()
	for s.Bytes > 0 || s.Millis > 0 {
		p := buf
		if s.Bytes > 0 {
			p = p[:min(int64(chunk), s.Bytes-f.Bytes)]
		}
		if len(p) == 0 || s.Millis > 0 && time.Since(start) >= time.Duration(s.Millis)*time.Millisecond {
			break
		}
		noise.Read(p)
		if err := c.SetWriteDeadline(time.Now().Add(timeout(s))); err != nil {
			return f, err
		}
		n, err := c.Write(p)
		sum.Write(p[:n])
		f.Bytes += int64(n)
		if err != nil {
			return f, err
		}
	}
	f.Micros = time.Since(start).Microseconds()
	f.Sum = fmt.Sprintf("%016x", sum.Sum64())
	return f, c.CloseWrite()
}

func receive(c *net.TCPConn, s guestapi.Stream) (guestapi.Flow, error) {
	f := guestapi.Flow{Wrong: -1}
	sum, noise := xxhash.New(), guestapi.NewNoise(s.RecvSeed)
	buf, want := make([]byte, chunk), make([]byte, chunk)
	var first, last time.Time
	for {
		if err := c.SetReadDeadline(time.Now().Add(timeout(s))); err != nil {
			return f, err
		}
		n, err := c.Read(buf)
		if n > 0 {
			last = time.Now()
			if first.IsZero() {
				first = last
			}
			sum.Write(buf[:n])
			noise.Read(want[:n])
			if f.Wrong < 0 && !bytes.Equal(buf[:n], want[:n]) {
				f.Wrong = f.Bytes + int64(difference(buf[:n], want[:n]))
			}
			f.Bytes += int64(n)
		}
		if errors.Is(err, io.EOF) {
			f.Micros = last.Sub(first).Microseconds()
			f.Sum = fmt.Sprintf("%016x", sum.Sum64())
			return f, nil
		}
		if err != nil {
			return f, err
		}
	}
}

// difference is the index of the first byte that differs.
func difference(a, b []byte) int {
	for i := range a {
		if a[i] != b[i] {
			return i
		}
	}
	return len(a)
}

package vhost

import (
	"io"
	"net"
	"testing"
	"time"
)

// A back-end that answers with any bytes, with files or without, neither
// crashes a front-end nor keeps it waiting nor leaves a file open in it.
func FuzzFrontend(f *testing.F) {
	good := func(n uint64) []byte { return bytesOf(U64(n)) }
	f.Add(uint8(0), uint8(0), []byte{})
	f.Add(uint8(3), uint8(1), good(0))
	f.Add(uint8(5), uint8(0), good(1<<63))
	f.Add(uint8(12), uint8(1), bytesOf(Inflight{Size: 1 << 62, Queues: 9}))
	f.Add(uint8(14), uint8(9), make([]byte, 24))
	f.Add(uint8(30), uint8(0), bytesOf(VringState{0, 0xffff_ffff}))
	f.Add(uint8(33), uint8(0), bytesOf(Config{Size: 9, Data: make([]byte, 9)}))
	wakePoller(f)
	f.Fuzz(func(t *testing.T, at, files uint8, payload []byte) {
		before := openFiles(t)
		t.Run("life", func(t *testing.T) {
			n := int(at)
			r := newReferee(t, 0)
			r.follow(func(m *message) action {
				i, _ := Request(m.Request).info()
				if i.answer != replied && !m.needReply() {
					return action{}
				}
				if n--; n >= 0 || len(payload) > maxPayload {
					return action{}
				}
				return action{raw: packet(Request(m.Request), 5, payload), files: int(files) % (maxFDs + 2)}
			})
			within(t, "the front-end's life", func() {
				_ = life(t, r.path, newSupply(t, 4, 2), 50*time.Millisecond, func() { r.follow(nil) })
			})
		})
		eventually(t, "files are given back", func() bool { return openFiles(t) <= before })
	})
}

// FuzzChannel sends any bytes on the back-end's channel. What is answered is
// answered in step, and the channel ends when the other end does.
func FuzzChannel(f *testing.F) {
	f.Add(packet(Request(BackendConfigChange), 9, nil), uint8(0))
	f.Add(append(packet(Request(BackendIOTLBMsg), 9, make([]byte, 32)), packet(Request(BackendConfigChange), 1, nil)...), uint8(1))
	f.Add(packet(Request(BackendSharedObjectLookup), 13, make([]byte, 16)), uint8(9))
	f.Add([]byte{2, 0, 0, 0, 1, 0, 0, 0, 255, 255, 255, 127}, uint8(0))
	wakePoller(f)
	f.Fuzz(func(t *testing.T, sent []byte, files uint8) {
		before := openFiles(t)
		t.Run("channel", func(t *testing.T) {
			w, peer := pair(t, testTimeout)
			changes := 0
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				serveChannel(w.c, testTimeout, func() { changes++ })
			}()
			asked := sendChannel(t, peer, sent, int(files)%(maxFDs+2))
			_ = peer.CloseWrite()
			within(t, "the channel's end", func() { <-ended })
			got, err := io.ReadAll(peer)
			// A front-end that closed with bytes unread resets the connection.
			if err == nil && len(got)%(headerBytes+8) != 0 {
				t.Errorf("% x was answered by % x", sent, got)
			}
			if len(got)/(headerBytes+8) > asked || changes > asked {
				t.Errorf("%d answers and %d changes for %d messages", len(got)/(headerBytes+8), changes, asked)
			}
		})
		eventually(t, "files are given back", func() bool { return openFiles(t) <= before })
	})
}

// sendChannel writes sent with files, and says how many messages it could hold.
func sendChannel(t *testing.T, c *net.UnixConn, sent []byte, files int) (messages int) {
	t.Helper()
	if files > 0 && len(sent) > 0 {
		sendFiles(t, c, sent, files)
	} else {
		_, _ = c.Write(sent)
	}
	return len(sent) / headerBytes
}

package vhost

import (
	"encoding"
	"net"
	"time"

	"github.com/vhostd/vhostd/virtio"
)

// serveChannel answers the back-end's own requests until the channel ends. It
// is a goroutine of its own and asks nothing of the main socket, so a back-end
// that waits for an answer here while it owes one there gets it.
//
// An unknown request is refused, and costs nothing more (QEMU does the same); a
// message that is none costs the channel.
func serveChannel(c *net.UnixConn, timeout time.Duration, changed func()) {
	w := newWire(c, timeout)
	defer c.Close()
	for {
		m, err := w.read()
		if err != nil {
			return
		}
		code := answerChannel(m, changed)
		m.fds.Close()
		if m.Flags&flagReply != 0 || !m.needReply() {
			continue // a reply to nothing is nothing
		}
		if err := replyChannel(w, m.Request, code); err != nil {
			return
		}
	}
}

// answerChannel does what m asks for; 0: it was done.
func answerChannel(m *message, changed func()) U64 {
	const refuse = 1
	if m.Flags&flagReply != 0 || m.fds.Len() > 0 || len(m.Payload) > 0 {
		return refuse // no request that is served here has either
	}
	if BackendRequest(m.Request) != BackendConfigChange {
		return refuse
	}
	changed()
	return 0
}

func replyChannel(w *wire, request uint32, code encoding.BinaryAppender) error {
	b, err := code.AppendBinary(nil)
	if err != nil {
		return err
	}
	return w.write(request, flagVersion|flagReply, b)
}

// configChanged tells the driver to read the configuration space again.
func (f *Frontend) configChanged() {
	f.news.tell(virtio.TransportEvent{Kind: virtio.ConfigChanged})
}

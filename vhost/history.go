package vhost

import (
	"encoding"
	"fmt"
	"time"

	"github.com/vhostd/vhostd/virtio"
)

// historyMax is how many messages a session remembers for Info.
const historyMax = 64

// MessageInfo is one message of a session's past.
type MessageInfo struct {
	At      time.Time
	Request string // the specification's name
	Detail  string // what it said
	Result  string // "ok", what was replied, or why it was refused
}

// history is a ring of the last messages.
type history struct {
	all  []MessageInfo
	next int // the oldest, once all is full
}

func (h *history) add(request Request, detail, result string) {
	i := MessageInfo{At: time.Now(), Request: request.String(), Detail: detail, Result: result}
	if len(h.all) < historyMax {
		h.all = append(h.all, i)
		return
	}
	h.all[h.next] = i
	h.next = (h.next + 1) % historyMax
}

// list gives the messages, oldest first.
func (h *history) list() []MessageInfo {
	out := make([]MessageInfo, 0, len(h.all))
	out = append(out, h.all[h.next:]...)
	return append(out, h.all[:h.next]...)
}

// describe tells what a message says. It is for people: a payload that cannot
// be decoded is told as its size.
func describe(m *message) string {
	d := detail(m)
	if m.needReply() {
		d = join(d, "need_reply")
	}
	switch n := m.fds.Len(); n {
	case 0:
	case 1:
		d = join(d, "1 file")
	default:
		d = join(d, fmt.Sprintf("%d files", n))
	}
	return d
}

func join(a, b string) string {
	if a == "" {
		return b
	}
	return a + ", " + b
}

// detail decodes the payload.
func detail(m *message) string {
	switch Request(m.Request) {
	case SetVringNum, SetVringBase, GetVringBase, SetVringEnable:
		return show(m, func(v VringState) string { return fmt.Sprintf("ring %d: %d", v.Index, v.Num) })
	case SetVringKick, SetVringCall, SetVringErr:
		return show(m, func(v VringFD) string { return fmt.Sprintf("ring %d", v.Index) })
	case SetVringAddr:
		return show(m, func(a VringAddr) string {
			return fmt.Sprintf("ring %d: desc %#x avail %#x used %#x flags %d log %#x",
				a.Index, uint64(a.Desc), uint64(a.Avail), uint64(a.Used), a.Flags, a.Log)
		})
	case SetMemTable:
		return show(m, func(t MemTable) (s string) {
			for _, r := range t {
				s = join(s, showRegion(r))
			}
			return s
		})
	case AddMemReg, RemMemReg:
		return show(m, func(r SingleRegion) string { return showRegion(MemRegion(r)) })
	case SetLogBase:
		return show(m, func(l LogBase) string { return fmt.Sprintf("%d bytes at %#x", l.Size, l.Offset) })
	case GetConfig, SetConfig:
		return show(m, func(c Config) string { return fmt.Sprintf("%d bytes at %d, flags %d", c.Size, c.Offset, c.Flags) })
	case SetFeatures, SetProtocolFeatures, SetStatus:
		return show(m, func(u U64) string { return fmt.Sprintf("%#x", uint64(u)) })
	case NetSetMTU:
		return show(m, func(u U64) string { return fmt.Sprint(uint64(u)) })
	}
	if len(m.Payload) > 0 {
		return fmt.Sprintf("%d bytes", len(m.Payload))
	}
	return ""
}

// show decodes m as a T and tells it by f.
func show[T any, P interface {
	*T
	encoding.BinaryUnmarshaler
}](m *message, f func(T) string) string {
	v, err := decode[T, P](m)
	if err != nil {
		return fmt.Sprintf("%d bytes", len(m.Payload))
	}
	return f(v)
}

func showRegion(r MemRegion) string {
	return fmt.Sprintf("%#x+%#x at user %#x, offset %#x", uint64(r.GPA), r.Size, uint64(r.UVA), r.Offset)
}

// result tells what was replied.
func result(p payload) string {
	switch p := p.(type) {
	case U64:
		return fmt.Sprintf("%#x", uint64(p))
	case VringState:
		return fmt.Sprintf("ring %d: %d", p.Index, virtio.Position(p.Num))
	case Config:
		return fmt.Sprintf("%d bytes", p.Size)
	default:
		return "ok"
	}
}

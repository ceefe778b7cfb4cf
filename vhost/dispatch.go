package vhost

import (
	"encoding"
	"errors"
	"fmt"
	"log/slog"

	"github.com/vhostd/vhostd/virtio"
)

// payload is what a handler answers with; nil: the message has no reply of its
// own, an acknowledgement at most.
type payload = encoding.BinaryAppender

// filed is a payload with a file, which is closed when it was sent.
type filed interface{ file() int }

// entry is what the session does with a request.
type entry struct {
	run      func(*Session, *message) (payload, error)
	protocol ProtocolFeatures // must have been agreed on
	virtio   virtio.Features  // must have been offered
	refusal  payload          // the reply that means failure, for requests that are always replied to
}

// dispatchTable has what is served, and what is refused by a reply of its own:
// entries without run.
var dispatchTable = map[Request]entry{
	GetFeatures:         {run: (*Session).getFeatures},
	SetFeatures:         {run: (*Session).setFeatures},
	SetOwner:            {run: (*Session).setOwner},
	ResetOwner:          {run: (*Session).resetOwner},
	GetProtocolFeatures: {run: (*Session).getProtocolFeatures, virtio: virtio.FeatureProtocol},
	SetProtocolFeatures: {run: (*Session).setProtocolFeatures, virtio: virtio.FeatureProtocol},
	GetQueueNum:         {run: (*Session).getQueueNum, protocol: ProtocolMQ},
	GetStatus:           {run: (*Session).getStatus, protocol: ProtocolStatus},
	SetStatus:           {run: (*Session).setStatus, protocol: ProtocolStatus},
	ResetDevice:         {run: (*Session).resetDevice, protocol: ProtocolResetDevice},
	NetSetMTU:           {run: (*Session).netSetMTU, protocol: ProtocolMTU},
	SendRARP:            {run: (*Session).sendRARP, protocol: ProtocolRARP},

	SetMemTable:    {run: (*Session).setMemTable},
	GetMaxMemSlots: {run: (*Session).getMaxMemSlots, protocol: ProtocolMemSlots},
	AddMemReg:      {run: (*Session).addMemReg, protocol: ProtocolMemSlots},
	RemMemReg:      {run: (*Session).remMemReg, protocol: ProtocolMemSlots},
	SetLogBase:     {run: (*Session).setLogBase, protocol: ProtocolLogSHMFD},
	SetLogFD:       {run: (*Session).setLogFD},
	GetInflightFD:  {run: (*Session).getInflightFD, protocol: ProtocolInflightSHMFD},
	SetInflightFD:  {run: (*Session).setInflightFD, protocol: ProtocolInflightSHMFD},

	SetVringNum:    {run: (*Session).setVringNum},
	SetVringAddr:   {run: (*Session).setVringAddr},
	SetVringBase:   {run: (*Session).setVringBase},
	GetVringBase:   {run: (*Session).getVringBase},
	SetVringKick:   {run: (*Session).setVringKick},
	SetVringCall:   {run: (*Session).setVringCall},
	SetVringErr:    {run: (*Session).setVringErr},
	SetVringEnable: {run: (*Session).setVringEnable, virtio: virtio.FeatureProtocol},

	GetConfig:       {run: (*Session).getConfig, protocol: ProtocolConfig, refusal: noBytes{}},
	SetConfig:       {run: (*Session).setConfig, protocol: ProtocolConfig},
	SetBackendReqFD: {run: (*Session).setBackendReqFD, protocol: ProtocolBackendReq},

	// Not served. These are due a number that can say so.
	IOTLBMsg:         {refusal: U64(1)},
	PostcopyListen:   {refusal: U64(1)},
	PostcopyEnd:      {refusal: U64(1)},
	SetDeviceStateFD: {refusal: U64(0x101)}, // an error, and no file comes back
	CheckDeviceState: {refusal: U64(1)},
}

// noBytes is a reply without payload: the error of GET_CONFIG.
type noBytes struct{}

func (noBytes) AppendBinary(b []byte) ([]byte, error) { return b, nil }

// fatalError ends the connection: what could not be done cannot be refused.
type fatalError struct{ error }

func (e fatalError) Unwrap() error { return e.error }

func fatal(err error) error { return fatalError{err} }

// mildError refuses a message if the peer wants to hear of it, and otherwise
// lets the connection go on: the peer was told in another way.
type mildError struct{ error }

func (e mildError) Unwrap() error { return e.error }

// dispatch serves one message. Its error ends the connection.
func (s *Session) dispatch(m *message) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer m.fds.Close()
	request, detail := Request(m.Request), describe(m)
	reply, err := s.handle(request, m)
	if err != nil {
		s.history.add(request, detail, "refused: "+err.Error())
		return s.refuse(request, m, err)
	}
	s.history.add(request, detail, result(reply))
	if reply == nil && s.wantsAck(m) {
		reply = U64(0)
	}
	return s.reply(m, reply)
}

// handle finds and runs the request's handler. A refused message has changed
// nothing.
func (s *Session) handle(request Request, m *message) (payload, error) {
	e := dispatchTable[request]
	switch {
	case e.run == nil:
		return nil, errors.New("this back-end does not serve the request")
	case !s.protocol.Has(e.protocol):
		return nil, fmt.Errorf("protocol feature %v was not agreed on", (e.protocol &^ s.protocol).Names())
	case !s.offered.Has(e.virtio):
		return nil, fmt.Errorf("feature %v was not offered", (e.virtio &^ s.offered).Names(s.spec.ID))
	}
	if err := request.check(m); err != nil {
		if m.fds.Len() == 0 && (request == SetMemTable || request == AddMemReg) {
			return nil, notShared(err)
		}
		return nil, err
	}
	return e.run(s, m)
}

// refuse answers a message that was not served. Where the peer does not wait
// for an answer that can say no, the connection ends, except for requests that
// nobody knows: those are ignored.
func (s *Session) refuse(request Request, m *message, err error) error {
	if f, ok := errors.AsType[fatalError](err); ok {
		return fmt.Errorf("%v: %w", request, f.error)
	}
	s.log(slog.LevelWarn, "message refused", "request", request.String(), "error", err)
	info, known := request.info()
	if known && info.answer == replied && (request != SetLogBase || s.protocol.Has(ProtocolLogSHMFD)) {
		if refusal := dispatchTable[request].refusal; refusal != nil {
			return s.reply(m, refusal)
		}
		return fmt.Errorf("%v: %w", request, err)
	}
	if s.wantsAck(m) {
		return s.reply(m, U64(1))
	}
	if _, mild := errors.AsType[mildError](err); mild || !known {
		return nil
	}
	return fmt.Errorf("%v: %w", request, err)
}

// wantsAck says whether the message is answered by a number that says success
// or failure (vhost-user, REPLY_ACK).
func (s *Session) wantsAck(m *message) bool {
	return m.needReply() && s.protocol.Has(ProtocolReplyAck)
}

// reply writes the reply to m: same request, version 1, and no other flag than
// that it is a reply, for which QEMU looks at all bits.
func (s *Session) reply(m *message, p payload) error {
	if p == nil {
		return nil
	}
	var fds []int
	if f, ok := p.(filed); ok {
		fds = append(fds, f.file())
		defer closeFD(f.file())
	}
	b, err := p.AppendBinary(nil)
	if err != nil {
		return err
	}
	// A peer that takes no replies holds up its own session, not who asks how
	// that is doing.
	s.unlocked(func() { err = s.wire.write(m.Request, flagVersion|flagReply, b, fds...) })
	return err
}

package vhost

import (
	"errors"
	"fmt"
	"io"
)

// getConfig answers with as many bytes as were asked for: what lies behind the
// device's config space is zero.
func (s *Session) getConfig(m *message) (payload, error) {
	c, err := decode[Config](m)
	if err != nil {
		return nil, err
	}
	data := make([]byte, len(c.Data))
	s.unlocked(func() { _, err = s.can.config.ReadConfig(data, int64(c.Offset)) })
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read of the config space: %w", err)
	}
	c.Data = data
	return c, nil
}

// setConfig writes the config space. What a migration writes (flags 1) holds
// read-only fields too; those are the back-end's own, so the device's refusal
// is no failure then.
func (s *Session) setConfig(m *message) (payload, error) {
	c, err := decode[Config](m)
	if err != nil {
		return nil, err
	}
	if c.Flags > ConfigLive {
		return nil, fmt.Errorf("write of the config space with flags %#x: only 0 and 1 have a meaning", c.Flags)
	}
	data := append([]byte(nil), c.Data...) // the payload is the wire's
	s.unlocked(func() { _, err = s.can.config.WriteConfig(data, int64(c.Offset)) })
	if err != nil && c.Flags != ConfigLive {
		return nil, fmt.Errorf("write of the config space: %w", err)
	}
	return nil, nil
}

// ErrNoChannel is what NotifyConfig answers when the front-end gave no way to
// tell it.
var ErrNoChannel = errors.New("the front-end listens to no messages about the config space")

// NotifyConfig tells the front-end that the config space has changed, so that
// it reads it again. It does not wait for that, may be called from anywhere,
// and what is called while the front-end has not answered yet is told once.
// While all rings are stopped nothing may be sent: it is told at the next start.
func (s *Session) NotifyConfig() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.channel == nil || !s.protocol.Has(ProtocolConfig|ProtocolBackendReq) {
		return ErrNoChannel
	}
	s.configChanged = true
	if !s.suspended() {
		s.tellConfig()
	}
	return nil
}

// tellConfig sends what NotifyConfig has left to tell.
func (s *Session) tellConfig() {
	if s.configChanged && s.channel != nil {
		s.configChanged = false
		s.channel.notify(s.protocol.Has(ProtocolReplyAck))
	}
}

package probe

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/vhost"
	"github.com/vhostd/vhostd/virtio"
)

type protocol = vhost.ProtocolFeatures

// agreeable are the protocol features that a probe agrees on: those that let it
// ask more. Bits 14 and 17 would change what messages look like.
const agreeable = vhost.ProtocolMQ | vhost.ProtocolReplyAck | vhost.ProtocolBackendReq | vhost.ProtocolConfig |
	vhost.ProtocolInflightSHMFD | vhost.ProtocolMemSlots | vhost.ProtocolStatus

// unknown is a device that nothing told the type of.
const unknown virtio.DeviceID = 0

// Run asks the back-end that open connects to. The device is what it is said to
// be; 0: that is guessed from the answers. The error says why nothing could be
// asked at all; what goes wrong later is in the report.
func Run(ctx context.Context, open func(context.Context) (*vhost.Conn, error), device virtio.DeviceID) (*Report, error) {
	r := &Report{id: device, Because: "it was said", Unusual: []Finding{}}
	p := &prober{open: open, ctx: ctx, report: r}
	defer p.hangUp()
	if err := p.connect(); err != nil {
		return nil, err
	}
	f := p.number(vhost.GetFeatures, "%#x")
	if f == nil {
		m := r.Messages[0]
		return nil, errors.Join(ctx.Err(), fmt.Errorf("GET_FEATURES: %s %s: is this a vhost-user back-end, and is no other front-end attached to it?", m.Answer, m.Detail))
	}
	r.features = virtio.Features(*f)
	p.greet = p.hello
	p.negotiate()
	p.capacities()
	p.space()
	p.state()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	r.Features = Bits{fmt.Sprintf("%#x", uint64(r.features)), r.features.Names(r.id)}
	r.Protocol = Bits{fmt.Sprintf("%#x", uint64(r.protocol)), r.protocol.Names()}
	r.Device = deviceName(r.id)
	judge(r)
	if p.gone != nil {
		r.find("it could not be asked to the end: "+p.gone.Error(), "what is missing here was not asked")
	}
	return r, nil
}

// negotiate agrees on protocol features. Where bit 30 is not offered there are
// none, and asking is an error (vhost-user, GET_PROTOCOL_FEATURES).
func (p *prober) negotiate() {
	r := p.report
	if r.features.Has(virtio.FeatureProtocol) {
		if u := p.number(vhost.GetProtocolFeatures, "%#x"); u != nil {
			r.protocol = protocol(*u)
			want := r.protocol & agreeable
			if _, ok := p.ask(vhost.SetProtocolFeatures, none, vhost.U64(want), fmt.Sprintf("%#x", uint64(want))); ok {
				p.agreed = want
			}
		}
	}
	p.ask(vhost.SetOwner, ack, nil, "")
}

// hello says on a new connection what was agreed on before. What the back-end
// hung up for is not said again.
func (p *prober) hello() {
	before := len(p.report.Messages)
	bad := func(request vhost.Request) bool {
		return slices.ContainsFunc(p.report.Messages[:before], func(m Message) bool {
			return m.Request == request.String() && (m.Answer == HungUp || m.Answer == Silent || m.Answer == Wrong)
		})
	}
	want := p.report.protocol & agreeable
	if want != 0 && !bad(vhost.SetProtocolFeatures) {
		if p.exchange(vhost.SetProtocolFeatures, none, vhost.U64(want), &Message{}); p.c == nil {
			return
		}
		p.agreed = want
	}
	if !bad(vhost.SetOwner) {
		p.exchange(vhost.SetOwner, ack, nil, &Message{})
	}
}

// capacities asks how much there is of everything.
func (p *prober) capacities() {
	r, has := p.report, p.report.protocol.Has
	if has(vhost.ProtocolMQ) {
		r.Queues = p.number(vhost.GetQueueNum, "%d")
	}
	if has(vhost.ProtocolMemSlots) {
		r.Slots = p.number(vhost.GetMaxMemSlots, "%d")
	}
	if has(vhost.ProtocolStatus) {
		r.Status = p.number(vhost.GetStatus, "%d")
	}
	if has(vhost.ProtocolInflightSHMFD) {
		want := vhost.Inflight{Queues: 1, QueueSize: 128}
		if b, ok := p.ask(vhost.GetInflightFD, reply, want, "1 ring of 128"); ok {
			m := &r.Messages[len(r.Messages)-1]
			var got vhost.Inflight
			if err := got.UnmarshalBinary(b); err != nil {
				m.Answer, m.Detail = Wrong, err.Error()
			} else {
				r.Inflight = &Inflight{got.Size}
				m.note(fmt.Sprintf("%d bytes", got.Size))
			}
		}
	}
}

// space reads the configuration space, and guesses the device where nobody said.
func (p *prober) space() {
	r := p.report
	if r.id == unknown {
		r.id, r.Because = byFeatures(r.features, r.protocol)
	}
	if !r.protocol.Has(vhost.ProtocolConfig) {
		return
	}
	size := configSize(r.id)
	r.config = p.window(0, size)
	if r.id == unknown && r.config != nil {
		if r.id, r.Because = byConfig(r.config); r.id != unknown && configSize(r.id) > size {
			r.config = p.window(0, configSize(r.id))
		}
	}
	r.ConfigRaw = hex.EncodeToString(r.config)
	r.Config = fields(r.id, r.features, r.config)
	// The second half by itself: back-ends are known that answer with the first.
	if half := len(r.config) / 2; half > 0 {
		if b := p.window(half, half); b != nil {
			r.shifted = !slices.Equal(b, r.config[half:half+half])
		}
	}
}

// window reads a part of the configuration space; nil: it could not be read.
func (p *prober) window(off, size int) []byte {
	ask := vhost.Config{Offset: uint32(off), Size: uint32(size), Data: make([]byte, size)}
	b, ok := p.ask(vhost.GetConfig, reply, ask, fmt.Sprintf("%d bytes at %d", size, off))
	if !ok {
		return nil
	}
	m := &p.report.Messages[len(p.report.Messages)-1]
	var got vhost.Config
	switch err := got.UnmarshalBinary(b); {
	case len(b) == 0:
		m.Answer = Refused // vhost-user, GET_CONFIG: a payload of size 0 means failure
	case err != nil:
		m.Answer, m.Detail = Wrong, err.Error()
	default:
		m.note(fmt.Sprintf("%d bytes", len(got.Data)))
		return got.Data
	}
	return nil
}

// state tells the back-end what changes nothing: it shows what it acknowledges.
func (p *prober) state() {
	r := p.report
	if r.protocol.Has(vhost.ProtocolBackendReq) {
		if pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err == nil {
			p.ask(vhost.SetBackendReqFD, ack, nil, "", pair[1])
			_ = unix.Close(pair[1])
			defer unix.Close(pair[0])
		}
	}
	p.ask(vhost.SetVringCall, ack, vhost.VringFD{NoFD: true}, "ring 0, no file")
	if r.features.Has(virtio.FeatureProtocol) {
		// QEMU sends it before SET_FEATURES, for rings that never ran.
		p.ask(vhost.SetVringEnable, ack, vhost.VringState{}, "ring 0, off")
	}
	want := r.features &^ virtio.FeatureLogAll
	p.ask(vhost.SetFeatures, ack, vhost.U64(want), fmt.Sprintf("%#x", uint64(want)))
	r.again = uint64(r.features)
	if u := p.number(vhost.GetFeatures, "%#x"); u != nil {
		r.again = *u
	}
}

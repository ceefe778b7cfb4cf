package probe

import (
	"time"

	"github.com/vhostd/vhostd/virtio"
)

// Report is what is known of a back-end. Its JSON is for programs.
type Report struct {
	Device    string    `json:"device"` // "net", "blk" … or "unknown"
	Because   string    `json:"device_because"`
	Features  Bits      `json:"features"`
	Protocol  Bits      `json:"protocol_features"`
	Queues    *uint64   `json:"queues,omitempty"`     // GET_QUEUE_NUM: pairs of a network device, rings of others
	Slots     *uint64   `json:"mem_slots,omitempty"`  // GET_MAX_MEM_SLOTS
	Status    *uint64   `json:"status,omitempty"`     // GET_STATUS
	Inflight  *Inflight `json:"inflight,omitempty"`   // GET_INFLIGHT_FD, for one ring of 128
	Config    []Field   `json:"config,omitempty"`     // GET_CONFIG, by field
	ConfigRaw string    `json:"config_raw,omitempty"` // and as it came, in hexadecimal
	Messages  []Message `json:"messages"`             // all that were sent, in order
	Unusual   []Finding `json:"unusual"`

	id       virtio.DeviceID
	features virtio.Features
	protocol protocol
	config   []byte
	shifted  bool   // the back-end does not look at the offset of GET_CONFIG
	again    uint64 // what GET_FEATURES said at the end
}

// Bits are feature bits, by number and by name.
type Bits struct {
	Value string   `json:"value"` // "0x140000000"
	Names []string `json:"names"`
}

// Inflight is the record of requests in flight that the back-end would keep.
type Inflight struct {
	Size uint64 `json:"size"` // bytes; 0: it keeps none
}

// Field is a field of the configuration space.
type Field struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	Valid bool   `json:"valid"` // the feature bit that gives it a meaning is offered
}

// Answer says how a message was answered.
type Answer string

// The kinds of answer.
const (
	Replied      Answer = "replied"
	Acknowledged Answer = "acknowledged"
	Taken        Answer = "taken" // no answer was due, and a later question was answered
	Refused      Answer = "refused"
	Wrong        Answer = "wrong answer"
	Silent       Answer = "no answer"
	HungUp       Answer = "hung up"
)

// Message is one message and its answer.
type Message struct {
	Request string        `json:"request"`
	Sent    string        `json:"sent,omitempty"`
	Answer  Answer        `json:"answer"`
	Detail  string        `json:"detail,omitempty"`
	Took    time.Duration `json:"took_ns"`

	flags bool // of the reply are wrong; Detail tells them
}

// Finding is something unusual, and what it leads to.
type Finding struct {
	What string `json:"what"`
	Why  string `json:"why"`
}

// asked finds the first message of a name; nil: it was not sent.
func (r *Report) asked(request string) *Message {
	for i := range r.Messages {
		if r.Messages[i].Request == request {
			return &r.Messages[i]
		}
	}
	return nil
}

// find adds a finding.
func (r *Report) find(what, why string) { r.Unusual = append(r.Unusual, Finding{what, why}) }

package probe

import (
	"fmt"
	"time"

	"github.com/vhostd/vhostd/vhost"
	"github.com/vhostd/vhostd/virtio"
)

// judgeAmounts looks at numbers that say too little, or contradict each other.
func judgeAmounts(r *Report) {
	if r.Queues != nil && *r.Queues == 0 {
		r.find("GET_QUEUE_NUM says 0", "no front-end can use a device without queues")
	}
	if n, ok := r.value("num_queues"); ok && r.Queues != nil && n != *r.Queues {
		r.find(fmt.Sprintf("GET_QUEUE_NUM says %d, num_queues in the configuration %d", *r.Queues, n),
			"a driver that uses what the configuration says asks for rings that are not there, or leaves some unused")
	}
	if n, ok := r.value("max_virtqueue_pairs"); ok && r.Queues != nil && n != *r.Queues {
		r.find(fmt.Sprintf("GET_QUEUE_NUM says %d pairs, max_virtqueue_pairs %d", *r.Queues, n), "one of them is wrong")
	}
	if r.Slots != nil && *r.Slots == 0 {
		r.find("there are 0 memory slots", "CONFIGURE_MEM_SLOTS is offered and no region can be added")
	} else if r.Slots != nil && *r.Slots < 8 {
		r.find(fmt.Sprintf("there are only %d memory slots", *r.Slots),
			"fewer than the 8 regions of a SET_MEM_TABLE: a guest with hot-plugged memory, or a process with scattered pages, does not fit")
	}
	if r.Status != nil && *r.Status != 0 {
		r.find(fmt.Sprintf("the device status of a new connection is %d", *r.Status),
			"it has to be 0: QEMU takes the device for one that is set up already, and sends no status of its own")
	}
	if r.Inflight != nil && r.Inflight.Size == 0 {
		r.find("INFLIGHT_SHMFD is offered, and the record is empty", "requests in flight are lost when the back-end crashes, as without the feature")
	}
	if n, ok := r.value("capacity"); ok && r.id == virtio.Block && n == 0 {
		r.find("the disk has no sectors", "guests see a disk of size 0")
	}
	if n, ok := r.value("size_max"); ok && n == 0 {
		r.find("size_max is offered and 0", "it is the most that a segment may have: drivers have to guess what is meant")
	}
	if n, ok := r.value("blk_size"); ok && (n < 512 || n&(n-1) != 0) {
		r.find(fmt.Sprintf("blk_size is %d", n), "drivers want a power of two from 512 on")
	}
	if r.shifted {
		r.find("GET_CONFIG answers for another offset than was asked", "the offset of the question is not looked at: read everything from 0")
	}
}

// consequences say what it means that a message is not taken.
var consequences = map[string]string{
	vhost.SetVringEnable.String():      "QEMU sends it to network devices before SET_FEATURES, and to rings that are never used",
	vhost.SetVringCall.String():        "front-ends that poll give no file, and some send it first of all",
	vhost.SetFeatures.String():         "these are the features that the back-end itself offered",
	vhost.SetBackendReqFD.String():     "QEMU gives up, and tries again without a pause",
	vhost.GetQueueNum.String():         "MQ was offered, and nobody learns how many queues there are",
	vhost.GetMaxMemSlots.String():      "CONFIGURE_MEM_SLOTS was offered, and nobody learns how many regions may be added",
	vhost.GetConfig.String():           "CONFIG was offered; QEMU refuses to start without the configuration of a disk or a socket device",
	vhost.GetStatus.String():           "STATUS was offered",
	vhost.GetInflightFD.String():       "INFLIGHT_SHMFD was offered",
	vhost.SetOwner.String():            "every front-end sends it",
	vhost.GetProtocolFeatures.String(): "bit 30 was offered, which promises an answer",
	vhost.SetProtocolFeatures.String(): "these are protocol features that the back-end itself offered",
	vhost.GetFeatures.String():         "front-ends ask it again to find out whether earlier messages were worked off",
}

// judgeAnswers looks at how each message was answered, once for each request.
func judgeAnswers(r *Report) {
	told := make(map[string]bool)
	for _, m := range r.Messages {
		if told[m.Request] {
			continue
		}
		switch m.Answer {
		case Refused, Wrong, Silent, HungUp:
			told[m.Request] = true
			what := fmt.Sprintf("%s: %s", m.Request, m.Answer)
			if m.Detail != "" {
				what += ", " + m.Detail
			}
			r.find(what, consequences[m.Request])
		}
		if m.Answer != Silent && m.Took > slow {
			told[m.Request] = true
			r.find(fmt.Sprintf("%s took %v", m.Request, m.Took.Round(time.Millisecond)), "a guest stands still while QEMU waits for an answer")
		}
	}
	if m := r.flags(); m != nil {
		r.find(fmt.Sprintf("%s: %s", m.Request, m.Detail), "a reply has flags 0x5; QEMU hangs up on anything else")
	}
}

// flags finds the first reply whose header has other flags than it should.
func (r *Report) flags() *Message {
	for i := range r.Messages {
		if r.Messages[i].flags {
			return &r.Messages[i]
		}
	}
	return nil
}

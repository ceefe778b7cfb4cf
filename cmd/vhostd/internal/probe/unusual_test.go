package probe

import (
	"encoding/binary"
	"maps"
	"strings"
	"testing"

	"github.com/vhostd/vhostd/vhost"
	"github.com/vhostd/vhostd/virtio"
)

// Each fault by itself is found, and nothing else with it.
func TestEachFaultIsFoundByItself(t *testing.T) {
	number := func(f *fake, r vhost.Request) uint64 { return binary.NativeEndian.Uint64(f.answers[r]) }
	features := func(on, off virtio.Features) func(*fake) {
		return func(f *fake) {
			f.answers[vhost.GetFeatures] = u64(number(f, vhost.GetFeatures)&^uint64(off) | uint64(on))
		}
	}
	protocol := func(on, off vhost.ProtocolFeatures) func(*fake) {
		return func(f *fake) {
			f.answers[vhost.GetProtocolFeatures] = u64(number(f, vhost.GetProtocolFeatures)&^uint64(off) | uint64(on))
		}
	}
	answer := func(r vhost.Request, b []byte) func(*fake) { return func(f *fake) { f.answers[r] = b } }
	refuse := func(r vhost.Request) func(*fake) {
		return func(f *fake) { f.refuses = map[vhost.Request]bool{r: true} }
	}
	for text, fault := range map[string]func(*fake){
		"bit 30":                      features(0, virtio.FeatureProtocol),
		"REPLY_ACK is not offered":    protocol(0, vhost.ProtocolReplyAck),
		"INBAND_NOTIFICATIONS":        protocol(vhost.ProtocolInband, 0),
		"XEN_MMAP":                    protocol(vhost.ProtocolXenMMAP, 0),
		"PAGEFAULT":                   protocol(vhost.ProtocolPageFault, 0),
		"LOG_SHMFD or log_all":        protocol(0, vhost.ProtocolLogSHMFD),
		"without a name":              protocol(1<<50, 0),
		"version_1":                   features(0, virtio.FeatureVersion1),
		"ring_reset":                  features(virtio.FeatureRingReset, 0),
		"notification_data":           features(virtio.FeatureNotification, 0),
		"bit 6":                       features(1<<6, 0),
		"ctrl_vq, ctrl_rx":            features(1<<17|1<<18, 0),
		"mtu is offered":              features(1<<3, 0),
		"GET_QUEUE_NUM says 0":        answer(vhost.GetQueueNum, u64(0)),
		"0 memory slots":              answer(vhost.GetMaxMemSlots, u64(0)),
		"only 3 memory slots":         answer(vhost.GetMaxMemSlots, u64(3)),
		"status of a new connection":  answer(vhost.GetStatus, u64(15)),
		"GET_QUEUE_NUM: wrong answer": answer(vhost.GetQueueNum, []byte{1, 2}),
		"SET_VRING_ENABLE: refused":   refuse(vhost.SetVringEnable),
		"GET_STATUS: flags 0xd, 0":    func(f *fake) { f.flags = map[vhost.Request]uint32{vhost.GetStatus: 0xd} },
	} {
		t.Run(text, func(t *testing.T) {
			f := sound()
			fault(f)
			r := probed(t, f)
			if text == "GET_STATUS: flags 0xd, 0" {
				text = "GET_STATUS: 0, flags 0xd"
			}
			r.wants(t, text)
		})
	}
}

// disk is a block device with a configuration of its own.
func disk(config func([]byte)) *fake {
	b := make([]byte, configSize(virtio.Block))
	binary.LittleEndian.PutUint64(b, 2048)
	binary.LittleEndian.PutUint32(b[12:], 126)
	binary.LittleEndian.PutUint32(b[20:], 512)
	binary.LittleEndian.PutUint16(b[34:], 4)
	if config != nil {
		config(b)
	}
	f := sound()
	maps.Copy(f.answers, map[vhost.Request][]byte{
		vhost.GetFeatures: u64(uint64(virtio.FeatureVersion1 | virtio.FeatureProtocol | virtio.FeatureLogAll | 1<<2 | 1<<6 | 1<<9 | 1<<12)),
		vhost.GetProtocolFeatures: u64(uint64(vhost.ProtocolMQ | vhost.ProtocolReplyAck | vhost.ProtocolConfig |
			vhost.ProtocolLogSHMFD | vhost.ProtocolInflightSHMFD)),
		vhost.GetInflightFD: append(u64(4096), make([]byte, 16)...),
		vhost.GetConfig:     b,
	})
	return f
}

// The fake answers with the whole configuration whatever is asked, so that the
// question for its second half ends badly: that is one finding more.
func TestADisksConfigurationIsTakenApartAndJudged(t *testing.T) {
	r := probed(t, disk(nil))
	if r.Device != "blk" {
		t.Errorf("it is taken for %q because %s", r.Device, r.Because)
	}
	var b strings.Builder
	if err := r.Print(&b); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"2048 sectors (1048576 bytes)", "seg_max", "num_queues"} {
		if !strings.Contains(b.String(), line) {
			t.Errorf("%q is not printed:\n%s", line, &b)
		}
	}
	if strings.Contains(b.String(), "max_discard_seg") {
		t.Error("a field is printed that has no meaning without its feature")
	}
	const half = "GET_CONFIG: wrong answer"
	r.wants(t, half)
	probed(t, disk(func(b []byte) { binary.LittleEndian.PutUint16(b[34:], 2) })).wants(t, half, "num_queues in the configuration 2")
	probed(t, disk(func(b []byte) { clear(b[:8]) })).wants(t, half, "no sectors")
	probed(t, disk(func(b []byte) { b[20] = 7 })).wants(t, half, "blk_size is 519")
}

func TestDevicesAreGuessedByTheirConfiguration(t *testing.T) {
	for want, config := range map[string][]byte{
		"vsock": {3, 0, 0, 0, 0, 0, 0, 0}, "fs": []byte("myfs\x00\x00\x00\x00"), "unknown": make([]byte, 8),
	} {
		id, _ := byConfig(config)
		if got := deviceName(id); got != want {
			t.Errorf("%q is taken for %s, want %s", config, got, want)
		}
	}
}

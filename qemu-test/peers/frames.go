package peers

import (
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// Flow is what frames have in common; its frames stay in order on their way.
type Flow struct {
	Src, Dst net.HardwareAddr
	Port     uint16 // UDP source port: tells flows apart, for people and for hashes
}

// MAC makes a locally administered address.
func MAC(n byte) net.HardwareAddr { return net.HardwareAddr{2, 0, 0, 0, 0, n} }

// Frames makes n UDP frames of a flow with contents that no other frame has, of
// sizes from the smallest to largest, both among them.
func Frames(t testing.TB, f Flow, n, largest int) [][]byte {
	t.Helper()
	const headers, smallest = 14 + 20 + 8, 60
	random := rand.NewChaCha8([32]byte{byte(f.Port), byte(f.Port >> 8)})
	frames := make([][]byte, n)
	for i := range frames {
		size := smallest + i*(largest-smallest)/max(n-1, 1)
		payload := make([]byte, size-headers)
		random.Read(payload)
		binary.BigEndian.PutUint32(payload, uint32(i))
		frames[i] = serialize(t, f, payload)
	}
	return frames
}

func serialize(t testing.TB, f Flow, payload []byte) []byte {
	t.Helper()
	ip := &layers.IPv4{
		Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP,
		SrcIP: net.IPv4(192, 0, 2, f.Src[5]), DstIP: net.IPv4(192, 0, 2, f.Dst[5]),
	}
	udp := &layers.UDP{SrcPort: layers.UDPPort(f.Port), DstPort: 9}
	udp.SetNetworkLayerForChecksum(ip)
	buf := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
		&layers.Ethernet{SrcMAC: f.Src, DstMAC: f.Dst, EthernetType: layers.EthernetTypeIPv4}, ip, udp, gopacket.Payload(payload))
	if err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// FlowOf reads back which flow a frame belongs to; 0 is none of ours.
func FlowOf(frame []byte) uint16 {
	p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.NoCopy)
	if udp, ok := p.TransportLayer().(*layers.UDP); ok {
		return uint16(udp.SrcPort)
	}
	return 0
}

// WritePcap makes a capture file for testpmd's pcap port to send.
func WritePcap(t testing.TB, path string, frames [][]byte) {
	t.Helper()
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	w := pcapgo.NewWriter(file)
	if err := w.WriteFileHeader(1<<16, layers.LinkTypeEthernet); err != nil {
		t.Fatal(err)
	}
	for i, f := range frames {
		info := gopacket.CaptureInfo{Timestamp: time.Unix(0, int64(i)), CaptureLength: len(f), Length: len(f)}
		if err := w.WritePacket(info, f); err != nil {
			t.Fatal(err)
		}
	}
}

// ReadPcap reads what testpmd's pcap port has written.
func ReadPcap(t testing.TB, path string) (frames [][]byte) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	r, err := pcapgo.NewReader(file)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	for {
		frame, _, err := r.ReadPacketData()
		if errors.Is(err, io.EOF) {
			return frames
		}
		if err != nil {
			t.Fatalf("%s: frame %d: %v", path, len(frames), err)
		}
		frames = append(frames, frame)
	}
}

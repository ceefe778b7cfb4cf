package attach

import (
	"fmt"
	"strings"

	"github.com/vhostd/vhostd/cmd/vhostd/internal/config"
)

// memory is guest memory that the daemon can map: without share=on QEMU keeps
// it for itself, and no frame passes.
var memory = []argument{
	{"-m", "1G"},
	{"-object", "memory-backend-memfd,id=mem,size=1G,share=on"},
	{"-machine", "q35,memory-backend=mem"},
}

// qemu is the arguments that give a guest a network device on a port.
func qemu(n *config.Net) []argument {
	// The ids of character devices and of network back-ends are apart.
	chardev := fmt.Sprintf("socket,id=%s,path=%s", n.Name, escape(n.Socket))
	if n.Mode == config.Client {
		chardev += ",server=on"
	} else {
		// Without it a restart of the daemon would cut the guest off for good.
		chardev += ",reconnect=1"
	}
	netdev := fmt.Sprintf("vhost-user,id=%s,chardev=%s", n.Name, n.Name)
	device := fmt.Sprintf("virtio-net-pci,netdev=%s,mac=%s", n.Name, n.MAC)
	if n.Queues > 1 {
		netdev += fmt.Sprintf(",queues=%d", n.Queues)
		// One interrupt per ring, one for the configuration, one for the
		// control queue, which QEMU serves itself.
		device += fmt.Sprintf(",mq=on,vectors=%d", 2*n.Queues+2)
	}
	if n.MTU != 0 {
		device += fmt.Sprintf(",host_mtu=%d", n.MTU)
	}
	return []argument{{"-chardev", chardev}, {"-netdev", netdev}, {"-device", device}}
}

// escape doubles commas, which would end the value.
func escape(value string) string { return strings.ReplaceAll(value, ",", ",,") }

package attach

import (
	"fmt"
	"slices"
	"strings"

	"github.com/vhostd/vhostd/cmd/vhostd/internal/config"
)

// disk writes how a guest is given a disk.
func disk(b *strings.Builder, d *config.Blk) {
	fmt.Fprintf(b, "# disk %s, %s: %s\n", d.Name, d.File, meeting(d.Mode, d.Socket))
	b.WriteString("#\n# QEMU (the first three once per guest, with the size you want):\n")
	chardev := fmt.Sprintf("socket,id=%s,path=%s", d.Name, escape(d.Socket))
	if d.Mode == config.Client {
		chardev += ",server=on"
	} else {
		chardev += ",reconnect=1"
	}
	// By itself QEMU wants a queue for each CPU of the guest, and fails where the
	// back-end has fewer.
	device := fmt.Sprintf("vhost-user-blk-pci,chardev=%s,num-queues=%d", d.Name, d.Queues)
	block(b, slices.Concat(memory, []argument{{"-chardev", chardev}, {"-device", device}}))
	b.WriteString("#\n# libvirt:\n")
	b.WriteString(backing)
	b.WriteString(libvirtDisk(d))
}

// libvirtDisk is the disk in a domain. The mode in it is QEMU's.
func libvirtDisk(d *config.Blk) string {
	var b strings.Builder
	b.WriteString("    <!-- in <devices>: -->\n")
	b.WriteString("    <disk type='vhostuser' device='disk'>\n")
	fmt.Fprintf(&b, "      <driver name='qemu' type='raw' queues='%d'/>\n", d.Queues)
	fmt.Fprintf(&b, "      <source type='unix' path='%s'>\n", attribute(d.Socket))
	b.WriteString("        <reconnect enabled='yes' timeout='1'/>\n")
	b.WriteString("      </source>\n")
	b.WriteString("      <target dev='vda' bus='virtio'/>\n")
	b.WriteString("    </disk>\n")
	return b.String()
}

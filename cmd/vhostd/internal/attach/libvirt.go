package attach

import (
	"encoding/xml"
	"fmt"
	"strings"

	"github.com/vhostd/vhostd/cmd/vhostd/internal/config"
)

// backing is libvirt's way to say share=on.
const backing = `  <!-- in <domain>, once per guest: -->
  <memoryBacking>
    <source type='memfd'/>
    <access mode='shared'/>
  </memoryBacking>
`

// libvirt is the interface that gives a guest a network device on a port. The
// mode in it is QEMU's, and so the opposite of ours.
func libvirt(n *config.Net) string {
	var b strings.Builder
	path := attribute(n.Socket)
	b.WriteString("    <!-- in <devices>: -->\n")
	b.WriteString("    <interface type='vhostuser'>\n")
	fmt.Fprintf(&b, "      <mac address='%s'/>\n", n.MAC)
	if n.Mode == config.Client {
		fmt.Fprintf(&b, "      <source type='unix' path='%s' mode='server'/>\n", path)
	} else {
		fmt.Fprintf(&b, "      <source type='unix' path='%s' mode='client'>\n", path)
		b.WriteString("        <reconnect enabled='yes' timeout='1'/>\n")
		b.WriteString("      </source>\n")
	}
	b.WriteString("      <model type='virtio'/>\n")
	if n.Queues > 1 {
		fmt.Fprintf(&b, "      <driver queues='%d'/>\n", n.Queues)
	}
	if n.MTU != 0 {
		fmt.Fprintf(&b, "      <mtu size='%d'/>\n", n.MTU)
	}
	b.WriteString("    </interface>\n")
	return b.String()
}

// attribute escapes s for a quoted value.
func attribute(s string) string {
	var b strings.Builder
	// A strings.Builder takes everything.
	_ = xml.EscapeText(&b, []byte(s))
	return b.String()
}

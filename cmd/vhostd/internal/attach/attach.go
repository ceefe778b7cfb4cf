package attach

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/vhostd/vhostd/cmd/vhostd/internal/config"
)

// Write writes how guests are attached to the ports and disks.
func Write(w io.Writer, nets []config.Net, blks []config.Blk) error {
	var b strings.Builder
	for i := range nets {
		if i > 0 {
			b.WriteString("\n")
		}
		n := &nets[i]
		fmt.Fprintf(&b, "# port %s, group %s: %s\n", n.Name, n.Group, meeting(n.Mode, n.Socket))
		b.WriteString("#\n# QEMU (the first three once per guest, with the size you want):\n")
		block(&b, slices.Concat(memory, qemu(n)))
		b.WriteString("#\n# libvirt:\n")
		b.WriteString(backing)
		b.WriteString(libvirt(n))
	}
	for i := range blks {
		if i+len(nets) > 0 {
			b.WriteString("\n")
		}
		disk(&b, &blks[i])
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// meeting says who waits for whom.
func meeting(mode config.Mode, socket string) string {
	if mode == config.Client {
		return fmt.Sprintf("QEMU listens at %s", socket)
	}
	return fmt.Sprintf("QEMU connects to %s", socket)
}

// argument is an option of QEMU and its value.
type argument struct{ option, value string }

// block writes arguments as lines of one shell command, the backslashes under
// each other.
func block(b *strings.Builder, args []argument) {
	lines := make([]string, len(args))
	width := 0
	for i, a := range args {
		lines[i] = fmt.Sprintf("  %-8s %s", a.option, quote(a.value))
		width = max(width, len(lines[i]))
	}
	last := lines[len(lines)-1]
	for _, line := range lines[:len(lines)-1] {
		fmt.Fprintf(b, "%-*s \\\n", width, line)
	}
	b.WriteString(last + "\n")
}

// plain are the characters that no shell makes something of.
const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789,=./:_-+@%"

// quote makes s one word for a shell.
func quote(s string) string {
	if strings.Trim(s, plain) == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

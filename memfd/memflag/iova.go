package memflag

import (
	"fmt"

	"github.com/vhostd/vhostd/memfd"
)

// IOVA is which addresses devices are told: "va" or "pa".
type IOVA string

// MarshalText writes the mode.
func (m IOVA) MarshalText() ([]byte, error) { return []byte(m), nil }

// UnmarshalText reads a mode.
func (m *IOVA) UnmarshalText(text []byte) error {
	switch v := IOVA(text); v {
	case "va", "pa", "":
		*m = v
		return nil
	}
	return fmt.Errorf("%.40q is none of va, pa", text)
}

func (m IOVA) mode() memfd.IOVAMode {
	if m == "pa" {
		return memfd.IOVAAsPA
	}
	return memfd.IOVAAsVA
}

package memflag

import (
	"fmt"

	"github.com/vhostd/vhostd/dma"
	"github.com/vhostd/vhostd/memfd"
)

// IOVA is which addresses devices are told: "va", "pa", or "auto" for whichever
// the machine allows.
type IOVA string

// MarshalText writes the mode.
func (m IOVA) MarshalText() ([]byte, error) { return []byte(m), nil }

// UnmarshalText reads a mode.
func (m *IOVA) UnmarshalText(text []byte) error {
	if _, err := dma.ParseWish(string(text)); err != nil {
		return err
	}
	*m = IOVA(text)
	return nil
}

// addresses fills in the mode, why it is that one, and who knows physical
// addresses where they are needed. Without a wish the machine is not looked at:
// addresses of this process are what every peer takes.
func (f *Flags) addresses(o *memfd.Options) error {
	if f.IOVA != "" {
		wish, err := dma.ParseWish(string(f.IOVA))
		if err != nil {
			return err
		}
		if o.IOVA, o.IOVAReason, err = dma.DetectMode(wish, dma.Machine{}); err != nil {
			return fmt.Errorf("--iova-mode: %w", err)
		}
	}
	if o.IOVA != memfd.IOVAAsPA && !f.Legacy {
		return nil
	}
	// It stays open until the process ends, as arenas mostly do.
	p, err := dma.OpenPagemap()
	if err != nil {
		return fmt.Errorf("--iova-mode pa and --legacy-mem: %w", err)
	}
	o.Resolver = p
	return nil
}

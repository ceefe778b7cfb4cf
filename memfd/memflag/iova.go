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

// detect fills in the mode, why it is that one, and for physical addresses who
// knows them. Without a wish nothing is looked at: addresses of this process are
// what every peer takes.
func (m IOVA) detect(o *memfd.Options) error {
	if m == "" {
		return nil
	}
	wish, err := dma.ParseWish(string(m))
	if err != nil {
		return err
	}
	if o.IOVA, o.IOVAReason, err = dma.DetectMode(wish, dma.Machine{}); err != nil {
		return fmt.Errorf("--iova-mode: %w", err)
	}
	if o.IOVA == memfd.IOVAAsPA {
		// It is open for as long as the process, as the arena is.
		if o.Resolver, err = dma.OpenPagemap(); err != nil {
			return fmt.Errorf("--iova-mode: %w", err)
		}
	}
	return nil
}

package backend

import (
	"fmt"
	"runtime"
	"strings"

	"github.com/vhostd/vhostd/cmd/vhostd/internal/text"
	"github.com/vhostd/vhostd/memfd"
	"github.com/vhostd/vhostd/vhost"
)

// Memory is what a back-end was given of ours. Its JSON is for programs.
type Memory struct {
	Pages   []uint64 `json:"pages"` // sizes in bytes
	Regions int      `json:"regions"`
	Max     int      `json:"max_regions"`
	Slots   bool     `json:"slots"`
	Used    uint64   `json:"used"`
	Shared  uint64   `json:"shared"`
	Waste   uint64   `json:"waste"`
}

// MemoryOf tells what of an arena a back-end has now.
func MemoryOf(f *vhost.Frontend, a *memfd.Arena) Memory {
	s := f.Info().Share
	m := Memory{Regions: s.Regions, Max: s.Max, Slots: s.Slots, Used: s.Used, Shared: s.Shared, Waste: s.Waste()}
	for _, c := range a.Layout().Classes {
		if c.Mapped > 0 {
			m.Pages = append(m.Pages, c.Page)
		}
	}
	return m
}

// String writes it in one line.
func (m Memory) String() string {
	var pages []string
	for _, p := range m.Pages {
		pages = append(pages, text.Size(p))
	}
	return fmt.Sprintf("memory: %d regions of %d (%s pages): %s used, %s shared, %s waste", m.Regions, m.Max,
		strings.Join(pages, ", "), text.Size(m.Used), text.Size(m.Shared), text.Size(m.Waste))
}

// Mallocs counts what this program ever allocated.
func Mallocs() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.Mallocs
}

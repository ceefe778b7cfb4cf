package memfd

import (
	"fmt"
	"os"
	"slices"
	"sync"
	"time"
)

// InspectVersion is what Inspection.Version says. It changes when a program that
// reads the answer would misread it; new fields are no such change.
const InspectVersion = 1

// Inspection is all there is to show of a process's arenas: what ServeInspect
// answers, as JSON.
type Inspection struct {
	Version int         `json:"version"`
	Time    time.Time   `json:"time"`
	PID     int         `json:"pid"`
	Program string      `json:"program"`
	Huge    []HugePages `json:"huge_pages"` // of the machine
	Arenas  []Layout    `json:"arenas"`     // oldest first
}

// HugePages is what the kernel has of one size. The numbers are of pages.
type HugePages struct {
	Page     uint64 `json:"page"` // bytes
	Total    uint64 `json:"total"`
	Free     uint64 `json:"free"`
	Reserved uint64 `json:"reserved"` // of the free ones: promised to somebody
	Surplus  uint64 `json:"surplus"`  // of all: more than are kept for good
}

// openArenas are the arenas of the process that are not closed.
var openArenas struct {
	mu  sync.Mutex
	all []*Arena // oldest first
}

func (a *Arena) register() {
	openArenas.mu.Lock()
	defer openArenas.mu.Unlock()
	openArenas.all = append(openArenas.all, a)
}

func (a *Arena) unregister() {
	openArenas.mu.Lock()
	defer openArenas.mu.Unlock()
	openArenas.all = slices.DeleteFunc(openArenas.all, func(o *Arena) bool { return o == a })
}

// inspect looks at all arenas.
func inspect() *Inspection {
	openArenas.mu.Lock()
	all := slices.Clone(openArenas.all)
	openArenas.mu.Unlock()
	program, err := os.Executable()
	if err != nil {
		program = os.Args[0]
	}
	i := &Inspection{Version: InspectVersion, Time: time.Now(), PID: os.Getpid(), Program: program,
		Huge: hugePagesOf(linux{}), Arenas: []Layout{}}
	for _, a := range all {
		i.Arenas = append(i.Arenas, a.Layout())
	}
	return i
}

// hugePagesOf asks the kernel. What it does not tell is 0.
func hugePagesOf(k kernel) []HugePages {
	all := []HugePages{}
	for _, page := range hugeSizes(k) {
		h := HugePages{Page: page}
		for name, to := range map[string]*uint64{
			"nr": &h.Total, "free": &h.Free, "resv": &h.Reserved, "surplus": &h.Surplus,
		} {
			if n, err := readNumber(k, fmt.Sprintf("%s/hugepages-%dkB/%s_hugepages", hugeDir, page>>10, name)); err == nil {
				*to = n
			}
		}
		all = append(all, h)
	}
	return all
}

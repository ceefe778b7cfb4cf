package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/vhostd/vhostd/memfd"
)

// start is a program that has memory to share, from its start to its exit. It
// tells its address space and resident memory, at their most, in kB.
func start(out io.Writer) error {
	a, err := memfd.New(memfd.Options{Name: "membench"})
	if err != nil {
		return err
	}
	h, err := a.Heap("membench", memfd.HeapOptions{Shared: true})
	if err != nil {
		return err
	}
	b, err := h.Alloc(context.Background(), 1<<20, 0)
	if err != nil {
		return err
	}
	mem := b.VA.Bytes(uint64(b.Cap))
	for i := range mem {
		mem[i] = 1
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	var peak, resident uint64
	for line := range strings.Lines(string(status)) {
		_, _ = fmt.Sscanf(line, "VmPeak: %d", &peak)
		_, _ = fmt.Sscanf(line, "VmHWM: %d", &resident)
	}
	fmt.Fprintln(out, peak, resident)
	if err := h.Free(b); err != nil {
		return err
	}
	return a.Close()
}

// starts runs both programs, from start to exit.
func (r *runner) starts() error {
	names := [3]string{"time, start to exit", "address space, at most", "resident, at most"}
	units := [3]string{"ms", "MiB", "MiB"}
	var own, other [3][]float64
	for round := range 3 * r.rounds {
		for turn := range 2 {
			to, cmd := &own, exec.Command(r.self, "start")
			if turn == round%2 {
				if r.theirs == "" {
					continue
				}
				to, cmd = &other, exec.Command(r.theirs, "start")
			}
			n, err := startOnce(cmd)
			if err != nil {
				return err
			}
			for i := range n {
				to[i] = append(to[i], n[i])
			}
		}
	}
	if r.theirs == "" {
		log.Print("SKIPPED: start: no DPDK")
	}
	for i, name := range names {
		res := result{Section: "start", Note: "a program that has 1 MiB of shared memory, in huge pages, from its start to its exit.",
			What: name, Unit: units[i], Other: dpdk, Goal: 1,
			Ours: median(own[i]), Theirs: median(other[i]), Ratios: ratios(other[i], own[i]), Samples: len(own[i])}
		res.Ratio = median(res.Ratios)
		r.results = append(r.results, res)
	}
	return nil
}

// startOnce gives ms, MiB and MiB.
func startOnce(cmd *exec.Cmd) (n [3]float64, err error) {
	begin := time.Now()
	out, err := cmd.Output()
	n[0] = float64(time.Since(begin).Microseconds()) / 1e3
	if err != nil {
		return n, fmt.Errorf("%v: %w: %s", cmd.Args, err, out)
	}
	var peak, resident float64
	if _, err := fmt.Sscan(string(out), &peak, &resident); err != nil {
		return n, fmt.Errorf("%v: %w: %q", cmd.Args, err, out)
	}
	n[1], n[2] = peak/1024, resident/1024
	return n, nil
}

package main

import "fmt"

// who answers beside us.
const (
	dpdk   = "DPDK"
	kernel = "kernel"
	ours   = "ours" // we ourselves, in another case
)

// measure is one line of the table: a question for us, and one for somebody
// else. Answers are times: less is better.
type measure struct {
	what   string
	unit   string
	ask    string
	other  string  // who
	theirs string  // the question for them
	goal   float64 // how many times our number theirs should be, at least; 0: it is for information
}

// section is what one pair of processes is asked.
type section struct {
	name     string
	dpdk     []string // arguments of the C program
	note     string
	measures []measure
}

// sections are all measurements but starting.
func sections() []section {
	heaps := section{name: "heap", dpdk: []string{"heap"}, note: "allocate and free, in one thread and in two at once, among a thousand buffers that stay. " +
		"DPDK clears what is freed, ours is cleared when it is asked for (AllocZero)."}
	for _, threads := range []int{1, 2} {
		for _, size := range []int{64, 512, 4 << 10, 64 << 10, 2 << 20} {
			for _, burst := range []int{1, 32} {
				m := measure{what: fmt.Sprintf("%d × %s, %d at a time", threads, bytesText(size), burst), unit: "ns", other: dpdk, goal: 1}
				m.ask = fmt.Sprintf("heap %d %d %d", threads, size, burst)
				m.theirs = m.ask
				heaps.measures = append(heaps.measures, m)
			}
		}
	}

	mapping := section{name: "pages", dpdk: []string{"pages"}, note: "map and unmap pages of 2 MiB, zeroed, in a file that is new " +
		"or has others; the kernel by itself maps the same with MAP_POPULATE, unmaps and punches."}
	for _, which := range []string{"first", "next"} {
		for _, n := range []int{1, 512} {
			ask := fmt.Sprintf("pages %d %s", n, which)
			what := fmt.Sprintf("%d pages, %s of the file", n, which)
			mapping.measures = append(mapping.measures,
				measure{what: what, unit: "µs", ask: ask, other: kernel, theirs: fmt.Sprintf("kernel %d %s", n, which), goal: 1 / 1.2})
			if which == "first" {
				mapping.measures = append(mapping.measures, measure{what: what, unit: "µs", ask: ask, other: dpdk, theirs: ask})
			}
		}
	}
	return []section{finding(), real(), heaps, mapping}
}

// finding is the same for both sides: external memory without pages behind it.
func finding() section {
	s := section{name: "lookup", dpdk: []string{"lookup"}, note: "IOVA to VA in pages of 2 MiB, none beside its neighbour for " +
		"devices: external memory without pages behind it, for both sides. DPDK walks the few pages it has itself first."}
	for _, n := range []int{1, 16, 64, 512, 4096} {
		for _, order := range []string{"seq", "rand"} {
			ask := fmt.Sprintf("lookup %d %s", n, order)
			m := measure{what: fmt.Sprintf("%d pages, %s", n, order), unit: "ns", ask: ask, other: dpdk, theirs: ask}
			switch {
			case n == 64 && order == "rand":
				m.goal = 20
			case n == 4096 && order == "rand":
				m.goal = 100
			}
			s.measures = append(s.measures, m)
		}
	}
	for _, order := range []string{"seq", "rand"} {
		s.measures = append(s.measures, measure{what: "1000000 pages, " + order + ", against 1", unit: "ns",
			ask: "lookup 1000000 " + order, other: ours, theirs: "lookup 1 " + order, goal: 0.5})
	}
	return s
}

// real tells whether DPDK's walk over external memory is the one over its own.
func real() section {
	s := section{name: "real", dpdk: []string{"lookup", "1024"}, note: "as above, but DPDK looks in 512 huge pages that it has mapped."}
	for _, order := range []string{"seq", "rand"} {
		s.measures = append(s.measures, measure{what: "512 pages, " + order, unit: "ns", ask: "lookup 512 " + order,
			other: dpdk, theirs: "lookup 512 " + order + " real"})
	}
	return s
}

// bytesText writes sizes the way people say them.
func bytesText(n int) string {
	switch {
	case n >= 1<<20:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 1<<10:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d B", n)
}

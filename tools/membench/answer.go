package main

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// A measurement is made of slices of time. Where one thread works by itself, the
// fastest slice counts: in the others something else had the core. Where two
// work, all count: what they do to each other is what is measured.
const (
	slice   = 2 * time.Millisecond
	nslices = 12
)

const page = 2 << 20 // bytes

// serve answers questions from in, as dpdk/dpdk.c does.
func serve(in io.Reader, out io.Writer) error {
	pin(0)
	answers := map[string]func(*question) (float64, error){
		"lookup": new(lookups).answer,
		"heap":   new(heaps).answer,
		"pages":  new(pages).answer,
		"kernel": kernelPages,
	}
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		q := &question{text: lines.Text()}
		n, err := 0.0, fmt.Errorf("no such question: %s", q.text)
		if f := answers[q.word()]; f != nil {
			n, err = f(q)
		}
		if err != nil {
			fmt.Fprintln(out, "error", err)
			continue
		}
		fmt.Fprintf(out, "%.3f\n", n)
	}
	return lines.Err()
}

// timed gives ns for one of the things that work does. It says how many it did.
func timed(alone bool, work func() (n int, err error)) (ns float64, err error) {
	fastest, sum, all := math.Inf(1), time.Duration(0), 0
	for range nslices {
		done, start, took := 0, time.Now(), time.Duration(0)
		for took < slice {
			n, err := work()
			if err != nil {
				return 0, err
			}
			done += n
			took = time.Since(start)
		}
		fastest = min(fastest, float64(took)/float64(done))
		sum, all = sum+took, all+done
	}
	if alone {
		return fastest, nil
	}
	return float64(sum) / float64(all), nil
}

// pin keeps the calling goroutine on one core.
func pin(core int) {
	runtime.LockOSThread()
	var set unix.CPUSet
	set.Set(core)
	// On a machine with one core there is nothing to keep apart.
	_ = unix.SchedSetaffinity(0, &set)
}

// question is what is left of a line.
type question struct{ text string }

// word takes the next word.
func (q *question) word() (word string) {
	n, _ := fmt.Sscan(q.text, &word)
	if n == 1 {
		q.text = q.text[len(word):]
	}
	for len(q.text) > 0 && q.text[0] == ' ' {
		q.text = q.text[1:]
	}
	return word
}

// number takes the next word as a number; 0 if it is none.
func (q *question) number() (n uint64) {
	_, _ = fmt.Sscan(q.word(), &n)
	return n
}

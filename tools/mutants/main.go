// Command mutants asks whether the tests would notice. It changes one operator
// or drops one call at a time, runs the package's tests on the changed source,
// and names the changes that no test minded.
//
//	mutants [-n 40] [-seed 1] [-timeout 1m] PACKAGE-DIRECTORY ...
//
// The tree is never touched: the changed file goes to the go command as an
// overlay. Some survivors are right to live (a change that makes no difference),
// so the outcome is something to read, not a gate.
package main

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"time"
)

func main() {
	n := flag.Int("n", 40, "mutants to try for each package; 0: all")
	seed := flag.Uint64("seed", 1, "which of them")
	timeout := flag.Duration("timeout", time.Minute, "for one run of the tests; a mutant that hangs is noticed")
	goCommand := flag.String("go", "go", "the go command")
	flag.Parse()
	if flag.NArg() == 0 {
		fmt.Fprintln(os.Stderr, "mutants: name package directories, such as ./virtio")
		os.Exit(2)
	}
	r := runner{goCommand: *goCommand, timeout: *timeout}
	for _, dir := range flag.Args() {
		all, err := collect(dir)
		if err == nil {
			err = r.check(dir) // tests that fail anyway notice nothing
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "mutants:", err)
			os.Exit(1)
		}
		rand.New(rand.NewPCG(*seed, 0)).Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		if *n > 0 {
			all = all[:min(*n, len(all))]
		}
		var count [outcomes]int
		for _, m := range all {
			o := r.try(dir, m)
			count[o]++
			if o == survived {
				fmt.Printf("%s:%d: nobody minds %s\n", m.file, m.line, m.what)
			}
		}
		fmt.Printf("%s: %d noticed, %d survived, %d do not compile\n", dir, count[noticed], count[survived], count[invalid])
	}
}

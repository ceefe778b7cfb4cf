// Command mutants asks whether the conformance tests would notice. It puts one
// fault at a time into the back-end, each the mistake that one rule is about,
// and runs the whole suite: the rule's own test must fail, and no other.
//
//	mutants [-go go] [-run 57,62]
//
// The tree is never touched: a changed file goes to the go command as an
// overlay. The table of faults is in faults.go. The exit code is 1 when a fault
// was not noticed, or not by its test alone.
package main

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

func main() {
	goCommand := flag.String("go", "go", "the go command")
	only := flag.String("run", "", "numbers of the rules to try, with commas; none: all")
	flag.Parse()
	chosen, err := choose(*only)
	if err == nil {
		err = try(runner{goCommand: *goCommand, suite: "./vhost/conformance", args: suiteArgs, limit: 2 * time.Minute}, chosen)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

// suiteArgs make the suite quick to fail: a fault often means that something
// does not happen, and each test waits for that.
var suiteArgs = []string{"-short", "-skip=^TestCatalogue", "-args", "-patience=2s"}

// choose gives the faults of the rules that were asked for.
func choose(only string) ([]fault, error) {
	if only == "" {
		return faults, nil
	}
	var chosen []fault
	for word := range strings.SplitSeq(only, ",") {
		n, err := strconv.Atoi(word)
		if err != nil {
			return nil, fmt.Errorf("-run wants numbers of rules: %w", err)
		}
		i := slices.IndexFunc(faults, func(f fault) bool { return f.rule == n })
		if i < 0 {
			return nil, fmt.Errorf("no fault is made for rule %d", n)
		}
		chosen = append(chosen, faults[i])
	}
	return chosen, nil
}

// try runs the suite without a fault, and then with each.
func try(r runner, chosen []fault) error {
	begin := time.Now()
	whole, err := r.baseline()
	if err != nil {
		return err
	}
	const row = "%4v  %-66s  %-9s  %7s\n"
	fmt.Printf(row, "rule", "fault", "verdict", "seconds")
	bad := 0
	for _, f := range chosen {
		start := time.Now()
		v := r.run(f, whole)
		fmt.Printf(row, f.rule, f.what, v.word, fmt.Sprintf("%.1f", time.Since(start).Seconds()))
		if v.word != noticed {
			bad++
			fmt.Printf("      %s\n", v.why)
		}
	}
	fmt.Printf("%d faults, %d noticed by the test of their rule and no other, in %.0f s\n",
		len(chosen), len(chosen)-bad, time.Since(begin).Seconds())
	if bad > 0 {
		return fmt.Errorf("%d of %d faults were not noticed as they should be", bad, len(chosen))
	}
	return nil
}

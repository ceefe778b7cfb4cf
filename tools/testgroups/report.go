package main

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// report prints the skipped tests, the table and the line of totals, and tells
// whether all is well.
func report(w io.Writer, results []result) bool {
	var total result
	total.name = "all"
	for _, r := range results {
		for _, s := range r.skips {
			fmt.Fprintf(w, "skipped: %s: %s\n", r.name, s)
		}
		if r.err != nil {
			fmt.Fprintf(w, "failed: %s: %v\n", r.name, r.err)
		}
		total.took += r.took
		total.budget += r.budget
		total.passed += r.passed
		total.failed += r.failed
		total.skipped += r.skipped
	}
	fmt.Fprintln(w)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "group\tseconds\tbudget\tpassed\tfailed\tskipped\t")
	for _, r := range append(results, total) {
		late := ""
		if r.took > r.budget {
			late = " over budget"
		}
		fmt.Fprintf(table, "%s\t%.1f\t%.0f\t%d\t%d\t%d\t%s\n", r.name,
			r.took.Round(time.Second/10).Seconds(), r.budget.Seconds(), r.passed, r.failed, r.skipped, late)
	}
	table.Flush()
	fmt.Fprintf(w, "\n%d passed, %d failed, %d skipped\n", total.passed, total.failed, total.skipped)
	return total.failed == 0
}

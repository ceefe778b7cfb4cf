package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
)

// report prints a table for each section.
func report(w io.Writer, results []result) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	section := ""
	for _, r := range results {
		if r.Section != section {
			if err := t.Flush(); err != nil {
				return err
			}
			section = r.Section
			fmt.Fprintf(w, "\n%s: %s\n", r.Section, r.Note)
			fmt.Fprintf(t, "\tours\tbeside\t\tratio\tfrom\tto\tgoal\t\t\n")
		}
		fmt.Fprintf(t, "%s\t%s %s\t", r.What, digits(r.Ours), r.Unit)
		if len(r.Ratios) == 0 {
			fmt.Fprintf(t, "-\t%s\t-\t\t\t\tskipped\t\n", r.Other)
			continue
		}
		fmt.Fprintf(t, "%s %s\t%s\t%s\t%s\t%s\t%s\t%s\t\n", digits(r.Theirs), r.Unit, r.Other, digits(r.Ratio),
			digits(slices.Min(r.Ratios)), digits(slices.Max(r.Ratios)), goal(r), verdict(r))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w, "\nOf what one thread does, the fastest slice of 2 ms counts, and medians of the rounds are shown.")
	fmt.Fprintln(w, "Ratios are theirs to ours, of one round each: the median, the least and the greatest. More is better for us.")
	return nil
}

func goal(r result) string {
	if r.Goal == 0 {
		return ""
	}
	return ">= " + digits(r.Goal)
}

func verdict(r result) string {
	switch {
	case r.Goal == 0:
		return ""
	case r.Ratio >= r.Goal:
		return "met"
	default:
		return "missed"
	}
}

// digits writes a number as exactly as it is worth.
func digits(n float64) string {
	switch {
	case n >= 100:
		return fmt.Sprintf("%.0f", n)
	case n >= 10:
		return fmt.Sprintf("%.1f", n)
	}
	return fmt.Sprintf("%.2f", n)
}

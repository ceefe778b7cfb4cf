package main

import (
	"fmt"
	"io"
	"regexp"
	"text/tabwriter"
)

// groups are the files whose coverage is worth a column.
var groups = []struct {
	name  string
	files *regexp.Regexp
}{
	{"parser", regexp.MustCompile(`/vhost/(message\w*|wire|request|dispatch)\.go:`)},
	{"server", regexp.MustCompile(`/vhost/\w+\.go:`)},
	{"ring", regexp.MustCompile(`/virtio/\w+\.go:`)},
}

// report prints a table: per target what it did, and what its inputs reach.
func report(out io.Writer, targets []*target, module string) {
	fmt.Fprintln(out, "\nCoverage in per cent of statements: parser is vhost/{message*,wire,request,dispatch}.go,")
	fmt.Fprintln(out, "server all of vhost, ring all of virtio, own the target's package.")
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "target\texecs\tinputs\t")
	for _, g := range groups {
		fmt.Fprintf(w, "%s\t", g.name)
	}
	fmt.Fprintln(w, "own\tfinding\t")
	total := &target{name: "all", cover: profile{}}
	for _, t := range targets {
		own := regexp.MustCompile("^" + regexp.QuoteMeta(module+t.dir[1:]) + `/\w+\.go:`)
		row(w, t, t.cover.show(own))
		total.execs += t.execs
		total.corpus += t.corpus
		for where, b := range t.cover {
			total.cover.add(where, b)
		}
	}
	row(w, total, "")
	w.Flush()
	for _, t := range targets {
		if t.problem != nil {
			fmt.Fprintf(out, "%s: its coverage is not known: %v\n", t.name, t.problem)
		}
	}
}

func row(w io.Writer, t *target, own string) {
	fmt.Fprintf(w, "%s\t%d\t%d\t", t.name, t.execs, t.corpus)
	for _, g := range groups {
		fmt.Fprintf(w, "%s\t", t.cover.show(g.files))
	}
	fmt.Fprintf(w, "%s\t%s\t\n", own, t.finding)
}

// show is a share of the table; what does not run at all is left out.
func (p profile) show(files *regexp.Regexp) string {
	if share, any := p.percent(files); any {
		return fmt.Sprintf("%.1f", share)
	}
	return "-"
}

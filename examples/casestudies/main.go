package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"text/tabwriter"
)

// studies are the results of both.
type studies struct {
	Lookups []lookup `json:"lookups"`
	Tables  []table  `json:"tables"`
}

func main() {
	log.SetFlags(0)
	asJSON := flag.Bool("json", false, "print the results as JSON")
	flag.Parse()
	var s studies
	var err error
	if s.Lookups, err = lookups(); err != nil {
		log.Fatal(err)
	}
	if s.Tables, err = tables(); err != nil {
		log.Fatal(err)
	}
	if *asJSON {
		e := json.NewEncoder(os.Stdout)
		e.SetIndent("", "  ")
		err = e.Encode(s)
	} else {
		err = s.print(os.Stdout)
	}
	if err != nil {
		log.Fatal(err)
	}
}

func (s *studies) print(w io.Writer) error {
	fmt.Fprint(w, `(a) A driver finds where each frame lies that its device names by a physical address.
    The pages are address space that nothing is behind: a look-up reads tables, not frames.

`)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "PAGES\tOF\tLINEAR SCAN, frames/s\tLOOK-UP, frames/s\tTIMES\tINDEX\tITS SIZE\t")
	for _, l := range s.Lookups {
		fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%.0f\t%s\t%s\t\n", l.Pages, size(l.Page), rate(l.Linear), rate(l.Ours), l.Ours/l.Linear, l.Index, size(l.Bytes))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprint(w, `
(b) The same memory in use, taken from the top of a file of 16 GiB and from offset 0, and
    what a peer is told of it. A peer that maps what it is told finds so many of the pages.

`)
	fmt.Fprintln(t, "TAKEN FROM\tTABLE\tREGIONS\tUSED\tSHARED\tUNUSED\tPAGES FOUND\t")
	for _, b := range s.Tables {
		fmt.Fprintf(t, "%s\t%s\t%d\t%s\t%s\t%s\t%d of %d\t\n", b.From, b.Kind, b.Regions, size(b.Used), size(b.Shared), size(b.Shared-b.Used), b.Found, b.Pages)
	}
	return t.Flush()
}

// size writes bytes.
func size(n uint64) string {
	for _, u := range []struct {
		name string
		of   uint64
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if n >= u.of {
			if n%u.of == 0 {
				return fmt.Sprintf("%d %s", n/u.of, u.name)
			}
			return fmt.Sprintf("%.1f %s", float64(n)/float64(u.of), u.name)
		}
	}
	return fmt.Sprintf("%d B", n)
}

// rate writes how many there are in a second.
func rate(n float64) string {
	switch {
	case n >= 1e6:
		return fmt.Sprintf("%.1f M", n/1e6)
	case n >= 1e3:
		return fmt.Sprintf("%.1f k", n/1e3)
	}
	return fmt.Sprintf("%.0f", n)
}

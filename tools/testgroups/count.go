package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
)

// event is what `go test -json` prints, a line each (go doc test2json).
type event struct {
	Action     string
	Package    string
	ImportPath string // of build events
	Test       string
	Elapsed    float64
	Output     string
}

type result struct {
	group
	took                    time.Duration
	passed, failed, skipped int
	skips                   []string // "package.Test: reason"
	err                     error    // the command's
}

// testID names a test; an empty test is its package.
type testID struct{ pkg, test string }

// counter is the writer that a group's output goes to.
type counter struct {
	out  io.Writer
	line []byte // what has come of the line that is not ended

	events  int
	output  map[testID]*strings.Builder // of what has not ended, or has failed
	ended   map[testID]string           // action it ended with
	parents map[testID]bool             // tests that have subtests
	order   []testID
}

func newCounter(out io.Writer) *counter {
	return &counter{
		out:     out,
		output:  map[testID]*strings.Builder{},
		ended:   map[testID]string{},
		parents: map[testID]bool{},
	}
}

// Write takes any part of the output; it never fails.
func (c *counter) Write(p []byte) (int, error) {
	c.line = append(c.line, p...)
	for {
		i := bytes.IndexByte(c.line, '\n')
		if i < 0 {
			return len(p), nil
		}
		c.take(c.line[:i])
		c.line = c.line[i+1:]
	}
}

func (c *counter) take(line []byte) {
	var e event
	if !bytes.HasPrefix(line, []byte("{")) || json.Unmarshal(line, &e) != nil || e.Action == "" {
		fmt.Fprintf(c.out, "%s\n", line)
		return
	}
	c.events++
	id := testID{e.Package, e.Test}
	switch e.Action {
	case "build-output":
		io.WriteString(c.out, e.Output)
	case "output":
		c.outputOf(id).WriteString(e.Output)
	case "run":
		if i := strings.LastIndexByte(e.Test, '/'); i > 0 {
			c.parents[testID{e.Package, e.Test[:i]}] = true
		}
	case "pass", "fail", "skip":
		c.end(id, e)
	}
}

func (c *counter) outputOf(id testID) *strings.Builder {
	b := c.output[id]
	if b == nil {
		b = new(strings.Builder)
		c.output[id] = b
	}
	return b
}

// end notes how a test or a package ended; what failed is shown at once.
func (c *counter) end(id testID, e event) {
	c.ended[id] = e.Action
	c.order = append(c.order, id)
	if e.Action == "fail" && c.output[id] != nil {
		io.WriteString(c.out, c.output[id].String())
	}
	if id.test == "" {
		fmt.Fprintf(c.out, "%-4s  %6.1fs  %s\n", e.Action, e.Elapsed, e.Package)
	}
	if e.Action == "pass" {
		delete(c.output, id)
	}
}

// finish sums up. Leaves are counted: a test that has subtests counts through
// them, and by itself only if it failed and none of them did.
func (c *counter) finish(g group, took time.Duration, err error) result {
	if len(c.line) > 0 {
		fmt.Fprintf(c.out, "%s\n", c.line)
	}
	r := result{group: g, took: took, err: err}
	failed := map[string]bool{}  // packages and tests below which a failure was counted
	for _, id := range c.order { // children end before their parents
		switch action := c.ended[id]; {
		case action == "fail" && !failed[id.pkg+" "+id.test]:
			r.failed++
			for t := id.test; ; {
				failed[id.pkg+" "+t] = true
				if t == "" {
					break
				}
				t = t[:max(strings.LastIndexByte(t, '/'), 0)]
			}
		case id.test == "" || c.parents[id]:
		case action == "pass":
			r.passed++
		case action == "skip":
			r.skipped++
			r.skips = append(r.skips, fmt.Sprintf("%s.%s: %s", shortName(id.pkg), id.test, c.reason(id)))
		}
	}
	switch {
	case err != nil && r.failed == 0: // the linter's finding, a panic, a kill
		r.failed = 1
	case err == nil && c.events == 0:
		r.passed = 1
	}
	return r
}

// reason finds what t.Skip said: the last line that has a file and a line number.
func (c *counter) reason(id testID) string {
	reason := "no reason given"
	if c.output[id] == nil {
		return reason
	}
	for line := range strings.Lines(c.output[id].String()) {
		if _, said, ok := strings.Cut(line, ".go:"); ok && strings.HasPrefix(line, "    ") {
			if _, said, ok = strings.Cut(said, ": "); ok {
				reason = strings.TrimSpace(said)
			}
		}
	}
	return reason
}

// shortName cuts what all packages of a module have in common.
func shortName(pkg string) string {
	if parts := strings.SplitN(pkg, "/", 4); len(parts) == 4 {
		return parts[3]
	}
	return pkg
}

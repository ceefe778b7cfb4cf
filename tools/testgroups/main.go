// Command testgroups runs groups of tests one after the other, each against its
// own budget of time, and ends with a table and one plain line of totals.
//
//	testgroups NAME:SECONDS:COMMAND ...
//
// COMMAND goes to sh -c. Lines of its standard output that are events of
// `go test -json` are counted; all others are passed through. A command that
// yields no event (a linter) counts as one test. A group that takes three times
// its budget is hung: it is killed and has failed. One that merely takes longer
// than its budget is marked, no more: a slow machine is not an error.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// hung is how many times its budget a group may take before it is killed.
const hung = 3

type group struct {
	name    string
	budget  time.Duration
	command string
}

func main() {
	groups, err := parseGroups(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "testgroups:", err)
		os.Exit(2)
	}
	var results []result
	for _, g := range groups {
		fmt.Printf("== %s: %s\n", g.name, g.command)
		results = append(results, run(g))
	}
	if !report(os.Stdout, results) {
		os.Exit(1)
	}
}

// parseGroups reads the command line. No group at all is an error: a run that
// tested nothing must not look like one that passed.
func parseGroups(args []string) ([]group, error) {
	if len(args) == 0 {
		return nil, errors.New("no groups: give some, as NAME:SECONDS:COMMAND")
	}
	var groups []group
	for _, a := range args {
		parts := strings.SplitN(a, ":", 3)
		if len(parts) != 3 || parts[0] == "" || strings.TrimSpace(parts[2]) == "" {
			return nil, fmt.Errorf("%q is not NAME:SECONDS:COMMAND", a)
		}
		seconds, err := strconv.Atoi(parts[1])
		if err != nil || seconds <= 0 {
			return nil, fmt.Errorf("%q: the budget is a whole number of seconds, not %q", a, parts[1])
		}
		groups = append(groups, group{parts[0], time.Duration(seconds) * time.Second, parts[2]})
	}
	return groups, nil
}

// run runs one group to its end and counts what it said.
func run(g group) result {
	ctx, cancel := context.WithTimeout(context.Background(), hung*g.budget)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", g.command)
	// A process group of its own, so that a hung test's children go with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second

	start := time.Now()
	count := newCounter(os.Stdout)
	cmd.Stdout, cmd.Stderr = count, os.Stderr
	err := cmd.Run()
	if ctx.Err() != nil {
		err = fmt.Errorf("killed after %v, %d times its budget", hung*g.budget, hung)
	}
	return count.finish(g, time.Since(start), err)
}

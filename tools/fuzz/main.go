// Command fuzz runs the fuzz targets of the module one after the other, as
// `go test -fuzz` takes one at a time, and ends with a table: how often each ran,
// and how much of the code that reads what peers send its inputs reach.
//
//	fuzz [-go GO] [-time 5s] [-run REGEXP]
//
// The output of the runs is for testgroups: events of `go test -json`. A finding
// fails the run; the table names the file that reproduces it.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// tool is what the runs have in common.
type tool struct {
	gocmd  string
	time   time.Duration
	module string
	cache  string // of the build; inputs that were found interesting are kept there
	temp   string
}

// target is a fuzz target and what became of it.
type target struct {
	name, dir string // dir is relative to the module, with "./"

	execs, corpus int
	finding       string // the file that reproduces it, or what else went wrong
	cover         profile
	problem       error // why the coverage is not known
}

func main() {
	t := &tool{}
	flag.StringVar(&t.gocmd, "go", "go", "the go command")
	flag.DurationVar(&t.time, "time", 5*time.Second, "how long each target runs")
	run := flag.String("run", ".", "targets whose name matches")
	flag.Parse()
	good, err := t.all(*run)
	if err != nil {
		fmt.Fprintln(os.Stderr, "fuzz:", err)
		os.Exit(2)
	}
	if !good {
		os.Exit(1)
	}
}

// all runs the targets that match and tells whether none found anything.
func (t *tool) all(match string) (good bool, err error) {
	want, err := regexp.Compile(match)
	if err != nil {
		return false, err
	}
	targets, err := find(".", want)
	if err != nil || len(targets) == 0 {
		return false, fmt.Errorf("no target matches %q (%v)", match, err)
	}
	if t.module, err = t.ask("list", "-m"); err != nil {
		return false, err
	}
	if t.cache, err = t.ask("env", "GOCACHE"); err != nil {
		return false, err
	}
	if t.temp, err = os.MkdirTemp("", "fuzz"); err != nil {
		return false, err
	}
	defer os.RemoveAll(t.temp)
	good = true
	for _, g := range targets {
		t.fuzz(g, os.Stdout)
		g.cover, g.problem = t.coverage(g)
		good = good && g.finding == ""
	}
	report(os.Stdout, targets, t.module)
	return good, nil
}

// ask runs the go command and gives its one line.
func (t *tool) ask(args ...string) (string, error) {
	out, err := exec.Command(t.gocmd, args...).Output()
	if err != nil {
		return "", fmt.Errorf("go %s: %w", strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out)), nil
}

var declaration = regexp.MustCompile(`(?m)^func (Fuzz\w*)\(\w+ \*testing\.F\)`)

// find reads which targets there are below root.
func find(root string, want *regexp.Regexp) (targets []*target, err error) {
	err = filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != root && strings.HasPrefix(d.Name(), "."), d.IsDir() && d.Name() == "testdata":
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, "_test.go"):
			return nil
		}
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range declaration.FindAllSubmatch(source, -1) {
			if want.Match(m[1]) {
				targets = append(targets, &target{name: string(m[1]), dir: "./" + filepath.ToSlash(filepath.Dir(path))})
			}
		}
		return nil
	})
	slices.SortFunc(targets, func(a, b *target) int { return strings.Compare(a.dir+" "+a.name, b.dir+" "+b.name) })
	return targets, err
}

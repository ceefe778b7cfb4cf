package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
)

// profile tells of each block of statements how many there are in it, and
// whether they ran.
type profile map[string]block

type block struct {
	statements int
	ran        bool
}

// coverage runs a target's inputs, those of the repository and those that
// fuzzing has kept, and gives what they reach. Go itself counts nothing while
// it fuzzes.
func (t *tool) coverage(g *target) (profile, error) {
	here, err := os.MkdirTemp(t.temp, g.name)
	if err != nil {
		return nil, err
	}
	pkg := t.module + "/" + filepath.ToSlash(filepath.Clean(g.dir))
	inputs := filepath.Join(here, "testdata", "fuzz", g.name)
	if err := os.MkdirAll(inputs, 0o755); err != nil {
		return nil, err
	}
	for _, from := range []string{filepath.Join(g.dir, "testdata", "fuzz", g.name), filepath.Join(t.cache, "fuzz", pkg, g.name)} {
		if err := link(from, inputs); err != nil {
			return nil, err
		}
	}
	// The inputs are looked for where the program runs.
	program, out := filepath.Join(here, "program"), filepath.Join(here, "profile")
	build := exec.Command(t.gocmd, "test", "-c", "-covermode", "set", "-o", program,
		"-coverpkg", t.module+"/vhost,"+t.module+"/virtio,"+pkg, g.dir)
	if said, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, tail(said))
	}
	run := exec.Command(program, "-test.run", "^"+g.name+"$", "-test.coverprofile", out, "-test.timeout", "5m")
	run.Dir = here
	if said, err := run.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s (when a target's arguments have changed, go clean -fuzzcache helps)", err, tail(said))
	}
	raw, err := os.ReadFile(out)
	if err != nil {
		return nil, err
	}
	return readProfile(raw), nil
}

// link puts links to the files of one directory into another.
func link(from, to string) error {
	entries, err := os.ReadDir(from)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if from, err = filepath.Abs(from); err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.Symlink(filepath.Join(from, e.Name()), filepath.Join(to, e.Name())); err != nil && !os.IsExist(err) {
			return err
		}
	}
	return nil
}

// tail is the end of what a program said.
func tail(said []byte) []byte {
	said = bytes.TrimSpace(said)
	return said[max(len(said)-300, 0):]
}

// blocks matches a line of a profile: what, statements, how often.
var blocks = regexp.MustCompile(`(?m)^(\S+\.go:\S+) (\d+) (\d+)$`)

func readProfile(raw []byte) profile {
	p := profile{}
	for _, m := range blocks.FindAllSubmatch(raw, -1) {
		n, _ := strconv.Atoi(string(m[2]))
		p.add(string(m[1]), block{n, string(m[3]) != "0"})
	}
	return p
}

func (p profile) add(where string, b block) {
	p[where] = block{b.statements, b.ran || p[where].ran}
}

// percent is how much of the files that match ran; false: there is none.
func (p profile) percent(files *regexp.Regexp) (float64, bool) {
	all, ran := 0, 0
	for where, b := range p {
		if files.MatchString(where) {
			all += b.statements
			if b.ran {
				ran += b.statements
			}
		}
	}
	return 100 * float64(ran) / float64(max(all, 1)), ran > 0
}

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// runner runs a suite of tests, below the current directory, on changed source.
type runner struct {
	goCommand string
	suite     string   // package
	args      []string // more, for its tests
	limit     time.Duration
}

// A verdict's words; why is what a person needs to mend the table.
type verdict struct{ word, why string }

const (
	noticed  = "noticed"  // by its test alone
	survived = "SURVIVED" // no test failed
	blunt    = "BLUNT"    // others failed, or the suite ended early
	invalid  = "INVALID"  // it cannot be made, or does not compile
)

// outcome is what became of the tests in one run.
type outcome struct {
	failed []string // top-level tests
	ended  int      // top-level tests that came to an end
	output string   // of the go command, when no test says what is wrong
}

// baseline runs the suite as it is, which must pass.
func (r runner) baseline() (outcome, error) {
	o, err := r.test()
	switch {
	case err != nil:
		return o, err
	case len(o.failed) > 0:
		return o, fmt.Errorf("without any fault these tests fail: %s", strings.Join(o.failed, ", "))
	case o.output != "":
		return o, fmt.Errorf("without any fault the suite fails:\n%s", o.output)
	case o.ended == 0:
		return o, fmt.Errorf("%s has no tests", r.suite)
	}
	return o, nil
}

// run runs the suite with one fault; whole is the run without any.
func (r runner) run(f fault, whole outcome) verdict {
	tmp, err := os.MkdirTemp("", "mutants")
	if err != nil {
		return verdict{invalid, err.Error()}
	}
	defer os.RemoveAll(tmp)
	overlay, err := f.overlay(tmp)
	if err != nil {
		return verdict{invalid, err.Error()}
	}
	o, err := r.test("-overlay=" + overlay)
	if err != nil {
		return verdict{invalid, err.Error()}
	}
	return judge(f, o, whole)
}

// judge holds the run with a fault against what it should be.
func judge(f fault, o, whole outcome) verdict {
	others := slices.DeleteFunc(slices.Clone(o.failed), func(name string) bool { return name == f.test })
	switch {
	case o.ended == 0:
		return verdict{invalid, "the tests did not run:\n" + o.output}
	case o.ended < whole.ended:
		return verdict{blunt, fmt.Sprintf("the suite ended after %d of %d tests, in %s", o.ended, whole.ended, strings.Join(o.failed, ", "))}
	case len(others) > 0:
		return verdict{blunt, "these failed beside " + f.test + ": " + strings.Join(others, ", ")}
	case len(o.failed) == 0:
		return verdict{survived, f.test + " passed " + o.output}
	}
	return verdict{word: noticed}
}

// overlay writes what tells the go command to read the faulty file.
func (f fault) overlay(dir string) (path string, err error) {
	changed, err := f.apply()
	if err != nil {
		return "", err
	}
	original, err := filepath.Abs(f.file)
	if err != nil {
		return "", err
	}
	with, path := filepath.Join(dir, "changed.go"), filepath.Join(dir, "overlay.json")
	list, err := json.Marshal(map[string]any{"Replace": map[string]string{original: with}})
	if err != nil {
		return "", err
	}
	return path, errors.Join(os.WriteFile(with, changed, 0o600), os.WriteFile(path, list, 0o600))
}

// apply gives the file with the fault in it.
func (f fault) apply() ([]byte, error) {
	src, err := os.ReadFile(f.file)
	if err != nil {
		return nil, err
	}
	if n := bytes.Count(src, []byte(f.old)); n != 1 {
		return nil, fmt.Errorf("%s holds %q %d times, want once", f.file, f.old, n)
	}
	return bytes.Replace(src, []byte(f.old), []byte(f.new), 1), nil
}

// test runs the suite. Its error is that of a go command that does not start,
// not that of tests.
func (r runner) test(args ...string) (o outcome, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), r.limit+time.Minute)
	defer cancel()
	// Without debug information linking takes half as long.
	args = append([]string{"test", "-json", "-count=1", "-vet=off", "-ldflags=-s -w", "-timeout=" + r.limit.String()}, args...)
	cmd := exec.CommandContext(ctx, r.goCommand, append(append(args, r.suite), r.args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if _, failed := errors.AsType[*exec.ExitError](err); err != nil && !failed {
		return o, err
	}
	o = read(out)
	if err == nil || len(o.failed) > 0 {
		o.output = ""
	} else {
		o.output += stderr.String()
	}
	return o, nil
}

// read makes sense of the events of go test -json.
func read(out []byte) (o outcome) {
	for line := range bytes.Lines(out) {
		var e struct{ Action, Test, Output string }
		if json.Unmarshal(line, &e) != nil {
			continue
		}
		top := e.Test != "" && !strings.Contains(e.Test, "/")
		switch e.Action {
		case "fail", "pass", "skip":
			if top {
				o.ended++
			}
			if top && e.Action == "fail" {
				o.failed = append(o.failed, e.Test)
			}
		case "output", "build-output":
			if e.Test == "" {
				o.output += e.Output
			}
		}
	}
	return o
}

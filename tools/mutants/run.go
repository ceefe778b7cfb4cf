package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

type outcome int

const (
	noticed outcome = iota
	survived
	invalid // does not compile
	outcomes
)

type runner struct {
	goCommand string
	timeout   time.Duration
}

// check runs the tests on the source as it is.
func (r runner) check(dir string) error {
	if out, err := r.test(dir); err != nil {
		return fmt.Errorf("%s: the tests fail without any change:\n%s", dir, out)
	}
	return nil
}

// try runs the tests of the package in dir on a mutant.
func (r runner) try(dir string, m mutant) outcome {
	out, err := r.overlaid(dir, m)
	switch {
	case err == nil:
		return survived
	case strings.Contains(out, "[build failed]"):
		return invalid
	}
	return noticed
}

func (r runner) overlaid(dir string, m mutant) (out string, err error) {
	tmp, err := os.MkdirTemp("", "mutant")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	src, err := os.ReadFile(m.file)
	if err != nil {
		return "", err
	}
	original, err := filepath.Abs(m.file)
	if err != nil {
		return "", err
	}
	changed, overlay := filepath.Join(tmp, "changed.go"), filepath.Join(tmp, "overlay.json")
	list, err := json.Marshal(map[string]any{"Replace": map[string]string{original: changed}})
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(changed, m.apply(src), 0o600); err != nil {
		return "", err
	}
	if err := os.WriteFile(overlay, list, 0o600); err != nil {
		return "", err
	}
	return r.test(dir, "-overlay="+overlay)
}

func (r runner) test(dir string, args ...string) (string, error) {
	args = append([]string{"test", "-short", "-failfast", "-vet=off", "-timeout=" + r.timeout.String()}, args...)
	cmd := exec.Command(r.goCommand, append(args, ".")...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

package qemutest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// fetchTime bounds a download with all its retries.
const fetchTime = 5 * time.Minute

// apt runs the package tools without touching what is installed: everything
// they write lies below dir.
type apt struct {
	dir     string
	options []string
}

// newApt uses the machine's package lists (apt-get update has made them).
func newApt(dir string) (*apt, error) {
	for _, tool := range []string{"apt-get", "apt-cache", "dpkg-deb"} {
		if _, err := exec.LookPath(tool); err != nil {
			return nil, fmt.Errorf("no %s here: the guests' kernel comes from Debian packages", tool)
		}
	}
	archives := filepath.Join(dir, "cache", "archives", "partial")
	if err := os.MkdirAll(archives, 0o755); err != nil {
		return nil, err
	}
	a := &apt{dir: dir, options: []string{
		"-o", "Dir::Cache=" + filepath.Join(dir, "cache"),
		"-o", "Debug::NoLocking=1",
		"-o", "APT::Sandbox::User=root",
		"-o", "Acquire::Retries=2",
	}}
	return a, nil
}

// with makes the tools see one source line and nothing else, and gets its lists.
func (a *apt) with(ctx context.Context, source string) error {
	lists := filepath.Join(a.dir, "lists")
	if err := os.MkdirAll(filepath.Join(lists, "partial"), 0o755); err != nil {
		return err
	}
	file := filepath.Join(a.dir, "source.list")
	if err := os.WriteFile(file, []byte(source+"\n"), 0o644); err != nil {
		return err
	}
	a.options = append(a.options,
		"-o", "Dir::Etc::sourcelist="+file, "-o", "Dir::Etc::sourceparts=-",
		"-o", "Dir::State::lists="+lists, "-o", "APT::Get::List-Cleanup=0")
	_, err := a.run(ctx, "apt-get", "--error-on=any", "update")
	return err
}

// fetch downloads packages and unpacks them into root.
func (a *apt) fetch(ctx context.Context, root string, packages ...string) error {
	if _, err := a.run(ctx, "apt-get", append([]string{"download"}, packages...)...); err != nil {
		return err
	}
	debs, err := filepath.Glob(filepath.Join(a.dir, "*.deb"))
	if err != nil {
		return err
	}
	if len(debs) == 0 {
		return fmt.Errorf("apt-get download %s left no package", strings.Join(packages, " "))
	}
	for _, deb := range debs {
		if _, err := a.run(ctx, "dpkg-deb", "-x", deb, root); err != nil {
			return err
		}
	}
	return nil
}

// run runs a tool in dir; an error has the tool's own last words in one line.
func (a *apt) run(ctx context.Context, tool string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	if tool != "dpkg-deb" {
		args = append(append([]string{}, a.options...), args...)
	}
	cmd := exec.CommandContext(ctx, tool, args...)
	cmd.Dir = a.dir
	cmd.Env = append(os.Environ(), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err == nil {
		return string(out), nil
	}
	words := strings.TrimSpace(stderr.String())
	if first, _, more := strings.Cut(words, "\n"); more {
		words = first
	}
	if ctx.Err() != nil {
		words = fmt.Sprintf("not done after %v", fetchTime)
	}
	return "", fmt.Errorf("%s: %w: %s (is the network there, and is apt-get update recent?)", tool, err, words)
}

// kernelPackage resolves the name of the current cloud kernel.
func (a *apt) kernelPackage(ctx context.Context) (string, error) {
	const meta = "linux-image-cloud-amd64"
	out, err := a.run(ctx, "apt-cache", "depends", meta)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(out) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "Depends: linux-image-"); ok {
			return "linux-image-" + name, nil
		}
	}
	return "", errors.New("no package " + meta + " in apt's lists: run apt-get update on a Debian machine")
}

// remove removes all that was downloaded.
func (a *apt) remove() error { return os.RemoveAll(a.dir) }

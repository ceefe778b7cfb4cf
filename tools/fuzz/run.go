package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path"
	"regexp"
	"strconv"
)

// fuzz runs a target and copies its output to out.
func (t *tool) fuzz(g *target, out io.Writer) {
	output, err := t.attempt(g)
	if err != nil && onlyDeadline(output) {
		output, err = t.attempt(g)
	}
	_, _ = out.Write(output)
	g.read(output)
	if err != nil && g.finding == "" {
		g.finding = err.Error()
	}
}

// attempt runs the target once. With long minimisation, which is the default, a
// short run does nothing else.
func (t *tool) attempt(g *target) ([]byte, error) {
	cmd := exec.Command(t.gocmd, "test", "-json", "-run", "^$", "-fuzz", "^"+g.name+"$",
		"-fuzztime", t.time.String(), "-fuzzminimizetime", "10x", g.dir)
	cmd.Stderr = os.Stderr
	return cmd.Output()
}

// onlyDeadline says whether a run failed with nothing but its own deadline: at
// the end of its time Go's fuzzer sometimes does. That is no finding, which
// always comes with the input, but no good run either.
func onlyDeadline(output []byte) bool {
	return bytes.Contains(output, []byte("context deadline exceeded")) && !bytes.Contains(output, []byte("Failing input"))
}

var (
	baseline = regexp.MustCompile(`baseline coverage: (\d+)/(\d+) completed`)
	progress = regexp.MustCompile(`execs: (\d+) .*\(total: (\d+)\)`)
	written  = regexp.MustCompile(`Failing input written to (\S+)`)
	seed     = regexp.MustCompile(`failure while testing seed corpus entry: (\S+)`)
)

// read takes what the table needs out of a run's output.
func (g *target) read(output []byte) {
	for line := range bytes.Lines(output) {
		var event struct{ Output string }
		if json.Unmarshal(line, &event) != nil {
			continue
		}
		for _, count := range []*regexp.Regexp{baseline, progress} {
			if m := count.FindStringSubmatch(event.Output); m != nil {
				g.execs, _ = strconv.Atoi(m[1])
				g.corpus, _ = strconv.Atoi(m[2])
			}
		}
		if m := written.FindStringSubmatch(event.Output); m != nil {
			g.finding = path.Join(g.dir, m[1])
		}
		if m := seed.FindStringSubmatch(event.Output); m != nil && g.finding == "" {
			g.finding = path.Join(g.dir, "testdata/fuzz", m[1])
		}
	}
}

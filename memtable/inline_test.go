package memtable_test

import (
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/vhostd/vhostd/memtable"
)

// hotPath is what a worker does for a packet, in a package that is not memtable.
func hotPath(w *memtable.Window[gpa], r *memtable.Reader, c *memtable.Cell[table], a gpa) (hits int) {
	r.Enter()
	tab := c.Load(r)
	if _, ok := tab.At(a, 64); ok {
		hits++
	}
	if _, ok := w.At(tab, a, 64); ok {
		hits++
	}
	r.Pass()
	r.Leave()
	return hits
}

func TestHotPathAllocatesNothing(t *testing.T) {
	var (
		d memtable.Domain
		c memtable.Cell[table]
		w memtable.Window[gpa]
	)
	r := d.Join("worker")
	c.Swap(build(t, []region{{Size: 4096, Mem: slabs()[0]}}, memtable.Options{}))
	if n := testing.AllocsPerRun(100, func() {
		if hotPath(&w, r, &c, 100)+hotPath(&w, r, &c, 4096) != 2 {
			panic("wrong answers")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestHotPathInlines(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles the package once more")
	}
	goTool, err := exec.LookPath("go")
	if err != nil {
		t.Skip("no go tool:", err)
	}
	out, err := exec.CommandContext(t.Context(), goTool, "test", "-c", "-o", "/dev/null", "-gcflags=-m", ".").CombinedOutput()
	if err != nil {
		t.Skipf("the package cannot be compiled here: %v\n%s", err, out)
	}
	var inlined []string
	for _, m := range regexp.MustCompile(`inline_test\.go:\d+:\d+: inlining call to (.*)`).FindAllStringSubmatch(string(out), -1) {
		inlined = append(inlined, m[1])
	}
	for _, want := range []string{"Table[", "look", "Window[", "peek", "Reader).Enter", "Reader).Pass", "Reader).Leave", "Cell["} {
		if !strings.Contains(strings.Join(inlined, "\n"), want) {
			t.Errorf("%q is not inlined into a caller in another package; inlined are %q", want, inlined)
		}
	}
}

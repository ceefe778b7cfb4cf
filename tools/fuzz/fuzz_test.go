package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// write makes the files of a tree.
func write(t *testing.T, root string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTargetsAreFoundWhereverTheyAre(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, ".", map[string]string{
		"b/x_test.go":          "func FuzzB(f *testing.F) {\n}\nfunc FuzzA(f *testing.F) {}\n",
		"a/deep/y_test.go":     "func FuzzDeep(f *testing.F) {}\nfunc Fuzzy(t *testing.T) {}\n",
		"a/deep/y.go":          "func FuzzNot(f *testing.F) {}\n",
		"a/testdata/z_test.go": "func FuzzNot(f *testing.F) {}\n",
		".git/z_test.go":       "func FuzzNot(f *testing.F) {}\n",
	})
	targets, err := find(".", regexp.MustCompile("[^B]$"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, g := range targets {
		got = append(got, g.dir+" "+g.name)
	}
	if diff := cmp.Diff([]string{"./a/deep FuzzDeep", "./b FuzzA"}, got); diff != "" {
		t.Errorf("targets (-want +got):\n%s", diff)
	}
}

func TestARunIsReadForItsNumbersAndItsFinding(t *testing.T) {
	for _, c := range []struct{ name, output, finding string }{
		{"good", "", ""},
		{"an input that is new", `{"Output":"    Failing input written to testdata/fuzz/FuzzA/77\n"}`, "p/testdata/fuzz/FuzzA/77"},
		{"an input that is known", `{"Output":"failure while testing seed corpus entry: FuzzA/77\n"}`, "p/testdata/fuzz/FuzzA/77"},
	} {
		g := &target{name: "FuzzA", dir: "./p"}
		g.read([]byte(`{"Output":"fuzz: elapsed: 3s, gathering baseline coverage: 3/7 completed\n"}` + "\n" +
			`{"Output":"fuzz: elapsed: 3s, execs: 150 (5/sec), new interesting: 0 (total: 9)\n"}` + "\nno event\n" +
			`{"Output":"fuzz: elapsed: 4s, execs: 325 (5/sec), new interesting: 2 (total: 11)\n"}` + "\n" + c.output))
		if g.execs != 325 || g.corpus != 11 || g.finding != c.finding {
			t.Errorf("%s: %d runs of %d inputs, finding %q", c.name, g.execs, g.corpus, g.finding)
		}
	}
}

func TestOnlyADeadlineWithoutAnInputIsNoFinding(t *testing.T) {
	if !onlyDeadline([]byte("context deadline exceeded")) {
		t.Error("a deadline counts as a finding")
	}
	if onlyDeadline([]byte("context deadline exceeded ... Failing input written to x")) || onlyDeadline([]byte("panic")) {
		t.Error("a finding counts as a deadline")
	}
}

const sample = `mode: set
m/vhost/wire.go:1.1,2.2 3 1
m/vhost/ring.go:1.1,2.2 4 0
m/virtio/put.go:1.1,2.2 1 0
m/own/own.go:1.1,2.2 5 1
`

func TestCoverageIsAShareOfStatementsAndAddsUp(t *testing.T) {
	one := &target{name: "FuzzA", dir: "./own", execs: 10, corpus: 2, cover: readProfile([]byte(sample))}
	two := &target{name: "FuzzB", dir: "./own", execs: 5, corpus: 1, cover: readProfile([]byte(strings.ReplaceAll(sample, "4 0", "4 1"))), finding: "own/testdata/fuzz/FuzzB/1"}
	var out strings.Builder
	report(&out, []*target{one, two}, "m")
	var rows [][]string
	for line := range strings.Lines(out.String()) {
		if f := strings.Fields(line); len(f) > 0 && (strings.HasPrefix(f[0], "Fuzz") || f[0] == "all") {
			rows = append(rows, f)
		}
	}
	want := [][]string{
		{"FuzzA", "10", "2", "100.0", "42.9", "-", "100.0"},
		{"FuzzB", "5", "1", "100.0", "100.0", "-", "100.0", "own/testdata/fuzz/FuzzB/1"},
		{"all", "15", "3", "100.0", "100.0", "-"},
	}
	if diff := cmp.Diff(want, rows); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
}

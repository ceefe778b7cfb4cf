package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func check(t *testing.T, path, src string) string {
	t.Helper()
	findings, err := checkFile(path, []byte(src))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(findings, "\n")
}

func TestUnsafeIsAllowedOnlyWhereTheNameSaysSo(t *testing.T) {
	const src = "package p\n\nimport _ \"unsafe\"\n"
	for _, path := range []string{"ring_unsafe.go", "a/b_unsafe_test.go", "ring_unsafe_arm64.go"} {
		if got := check(t, path, src); got != "" {
			t.Errorf("%s: %s", path, got)
		}
	}
	for _, path := range []string{"ring.go", "unsafe_ring.go", "a_unsafe/ring.go", "notunsafe.go", "ring_test.go"} {
		if got := check(t, path, src); !strings.HasPrefix(got, path+":3: ") {
			t.Errorf("%s: got %q, want a finding on line 3", path, got)
		}
	}
}

func TestALongFileIsFound(t *testing.T) {
	const head = "package p\n"
	if got := check(t, "a.go", head+strings.Repeat("\n", maxLines-1)); got != "" {
		t.Errorf("%d lines: %s", maxLines, got)
	}
	if got := check(t, "a.go", head+strings.Repeat("\n", maxLines)); !strings.Contains(got, "501 lines") {
		t.Errorf("got %q, want a finding about 501 lines", got)
	}
}

func TestOpenWorkIsFoundInCommentsOnly(t *testing.T) {
	word := "TO" + "DO"
	if got := check(t, "a.go", "package p\n\n/* later\n "+word+" */\nvar a int\n"); !strings.HasPrefix(got, "a.go:3: "+word) {
		t.Errorf("got %q, want a finding on line 3", got)
	}
	if got := check(t, "a.go", "package p\n\nvar s = \""+word+"\" // a MASTO"+"DON\n"); got != "" {
		t.Errorf("found %q where there is no such comment", got)
	}
}

func TestTheWalkSkipsWhatTheGoCommandDoesNotSee(t *testing.T) {
	dir := t.TempDir()
	const src = "package p\n\nimport _ \"unsafe\"\n"
	for _, path := range []string{"a.go", "sub/b.go", "testdata/c.go", ".git/d.go", "notes.txt"} {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(src), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	findings, err := checkTree(dir)
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	for _, f := range findings {
		path, _, _ := strings.Cut(f, ":")
		rel, _ := filepath.Rel(dir, path)
		files = append(files, rel)
	}
	if diff := cmp.Diff([]string{"a.go", "sub/b.go"}, files); diff != "" {
		t.Errorf("files with findings (-want +got):\n%s", diff)
	}
}

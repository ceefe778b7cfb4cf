package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const source = `package p

var notes []string

func note(s string) { notes = append(notes, s) }

// Clamp limits n to 10.
func Clamp(n int) int {
	if n > 10 {
		note("clamped")
		return 10
	}
	return n
}
`

// Clamping 10 itself makes no difference, and no test reads the notes.
const test = `package p

import "testing"

func TestClamp(t *testing.T) {
	if Clamp(9) != 9 || Clamp(11) != 10 {
		t.Fail()
	}
}
`

func TestMutantsAreWhatTheyAreSaidToBe(t *testing.T) {
	all, err := mutantsOf("p.go", []byte(source))
	if err != nil {
		t.Fatal(err)
	}
	var what []string
	for _, m := range all {
		what = append(what, m.what)
	}
	want := []string{">= for > in n > 10", `the loss of note("clamped")`}
	if diff := cmp.Diff(want, what); diff != "" {
		t.Errorf("mutants (-want +got):\n%s", diff)
	}
}

func TestATestThatMindsIsToldFromOneThatDoesNot(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"go.mod": "module p\n\ngo 1.26\n", "p.go": source, "p_test.go": test} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	r := runner{goCommand: "go", timeout: time.Minute}
	if err := r.check(dir); err != nil {
		t.Fatal(err)
	}
	all, err := collect(dir)
	if err != nil {
		t.Fatal(err)
	}
	bound := all[0]
	turned, broken := bound, bound
	turned.with, broken.with = "<", "nonsense"
	for want, m := range map[outcome]mutant{survived: bound, noticed: turned, invalid: broken} {
		if got := r.try(dir, m); got != want {
			t.Errorf("%q for > has outcome %d, want %d", m.with, got, want)
		}
	}
	if text, _ := os.ReadFile(filepath.Join(dir, "p.go")); string(text) != source {
		t.Error("the tree was touched")
	}
}

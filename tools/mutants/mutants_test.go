package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Each fault must fit the source as it is, and name the test of its rule: the
// whole run takes minutes, so a change that leaves a fault behind shows here.
func TestFaultsFitTheTree(t *testing.T) {
	t.Chdir("../..")
	starred := rulesOf(t, "vhost/conformance")
	if len(faults) < 25 {
		t.Errorf("%d faults: the suite is worth what it notices", len(faults))
	}
	for _, f := range faults {
		if _, err := f.apply(); err != nil {
			t.Errorf("rule %d: %v", f.rule, err)
		}
		if starred[f.test] != f.rule {
			t.Errorf("rule %d: %s proves rule %d of those with a star", f.rule, f.test, starred[f.test])
		}
	}
}

// rulesOf gives the rule of each test that has one with a star.
func rulesOf(t *testing.T, folder string) map[string]int {
	t.Helper()
	form := regexp.MustCompile(`(?m)^// Rule (\d+)★ \(.*\n(?://.*\n)*func (Test\w+)\(`)
	files, err := filepath.Glob(filepath.Join(folder, "*_test.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no tests in %s: %v", folder, err)
	}
	all := make(map[string]int)
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range form.FindAllStringSubmatch(string(text), -1) {
			all[m[2]], _ = strconv.Atoi(m[1])
		}
	}
	return all
}

const source = `package p

func Low(n int) int  { return max(n, 1) }
func High(n int) int { return min(n, 9) }
func Odd(n int) bool { return n%2 == 1 }
`

// Nobody tests Odd.
const tests = `package p

import "testing"

func TestLow(t *testing.T) {
	if Low(0) != 1 {
		t.Fail()
	}
}

func TestHigh(t *testing.T) {
	if High(10) != 9 || Low(10) != 10 {
		t.Fail()
	}
}
`

func TestVerdictsAreTold(t *testing.T) {
	t.Chdir(t.TempDir())
	for name, text := range map[string]string{"go.mod": "module p\n\ngo 1.26\n", "p.go": source, "p_test.go": tests} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := runner{goCommand: "go", suite: ".", limit: time.Minute}
	whole, err := r.baseline()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		fault
		want verdict
	}{
		{fault{old: "max(n, 1)", new: "max(n, 0)"}, verdict{noticed, ""}},
		{fault{old: "max(n, 1)", new: "1 - 1"}, verdict{blunt, "TestHigh"}},
		{fault{old: "max(n, 1)", new: "[]int{}[n]"}, verdict{blunt, "after 1 of 2"}},
		{fault{old: "n%2 == 1", new: "n%2 != 0"}, verdict{survived, "TestLow"}},
		{fault{old: "n%2", new: "n%"}, verdict{invalid, "syntax error"}},
		{fault{old: "(n int)", new: "(m int)"}, verdict{invalid, "3 times"}},
	} {
		c.file, c.test = "p.go", "TestLow"
		if got := r.run(c.fault, whole); got.word != c.want.word || !strings.Contains(got.why, c.want.why) {
			t.Errorf("%q for %q: %s, %s; want %s, %s", c.new, c.old, got.word, got.why, c.want.word, c.want.why)
		}
	}
	if text, _ := os.ReadFile("p.go"); string(text) != source {
		t.Error("the tree was touched")
	}
}

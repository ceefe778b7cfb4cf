package main

import (
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// feed gives the counter its input in small pieces: lines arrive torn.
func feed(out io.Writer, input string, err error) result {
	c := newCounter(out)
	for len(input) > 0 {
		n := min(len(input), 7)
		c.Write([]byte(input[:n]))
		input = input[n:]
	}
	return c.finish(group{name: "g", budget: time.Second}, time.Second, err)
}

func counts(r result) [3]int { return [3]int{r.passed, r.failed, r.skipped} }

func TestLeavesAreCountedAndParentsAreNot(t *testing.T) {
	r := feed(io.Discard, `
{"Action":"run","Package":"p","Test":"A"}
{"Action":"run","Package":"p","Test":"A/x"}
{"Action":"run","Package":"p","Test":"A/y"}
{"Action":"pass","Package":"p","Test":"A/x"}
{"Action":"fail","Package":"p","Test":"A/y"}
{"Action":"fail","Package":"p","Test":"A"}
{"Action":"run","Package":"p","Test":"B"}
{"Action":"pass","Package":"p","Test":"B"}
{"Action":"fail","Package":"p"}
`, errors.New("exit status 1"))
	if diff := cmp.Diff([3]int{2, 1, 0}, counts(r)); diff != "" {
		t.Errorf("passed, failed, skipped (-want +got):\n%s", diff)
	}
}

func TestAParentThatFailsAloneIsAFailure(t *testing.T) {
	r := feed(io.Discard, `
{"Action":"run","Package":"p","Test":"A"}
{"Action":"run","Package":"p","Test":"A/x"}
{"Action":"pass","Package":"p","Test":"A/x"}
{"Action":"fail","Package":"p","Test":"A"}
{"Action":"fail","Package":"p"}
`, errors.New("exit status 1"))
	if diff := cmp.Diff([3]int{1, 1, 0}, counts(r)); diff != "" {
		t.Errorf("passed, failed, skipped (-want +got):\n%s", diff)
	}
}

func TestAPackageThatFailsWithoutATestIsAFailureOfItsOwn(t *testing.T) {
	r := feed(io.Discard, `
{"Action":"run","Package":"p","Test":"A"}
{"Action":"pass","Package":"p","Test":"A"}
{"Action":"output","Package":"p","Output":"leaked goroutine\n"}
{"Action":"fail","Package":"p"}
{"Action":"fail","Package":"q"}
`, errors.New("exit status 1"))
	if diff := cmp.Diff([3]int{1, 2, 0}, counts(r)); diff != "" {
		t.Errorf("passed, failed, skipped (-want +got):\n%s", diff)
	}
}

func TestASkipKeepsItsReason(t *testing.T) {
	r := feed(io.Discard, `
{"Action":"run","Package":"example.org/a/b/c/d","Test":"A"}
{"Action":"output","Package":"example.org/a/b/c/d","Test":"A","Output":"=== RUN   A\n"}
{"Action":"output","Package":"example.org/a/b/c/d","Test":"A","Output":"    a_test.go:12: no hugepages: cannot reserve\n"}
{"Action":"skip","Package":"example.org/a/b/c/d","Test":"A"}
{"Action":"pass","Package":"example.org/a/b/c/d"}
`, nil)
	if diff := cmp.Diff([]string{"c/d.A: no hugepages: cannot reserve"}, r.skips); diff != "" {
		t.Errorf("skips (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([3]int{0, 0, 1}, counts(r)); diff != "" {
		t.Errorf("passed, failed, skipped (-want +got):\n%s", diff)
	}
}

func TestOnlyTheOutputOfFailuresIsShown(t *testing.T) {
	var out strings.Builder
	feed(&out, `plain words
{"Action":"run","Package":"p","Test":"A"}
{"Action":"output","Package":"p","Test":"A","Output":"quiet\n"}
{"Action":"pass","Package":"p","Test":"A"}
{"Action":"run","Package":"p","Test":"B"}
{"Action":"output","Package":"p","Test":"B","Output":"loud\n"}
{"Action":"fail","Package":"p","Test":"B"}
no newline at the end`, errors.New("exit status 1"))
	if got, want := out.String(), "plain words\nloud\nno newline at the end\n"; got != want {
		t.Errorf("shown %q, want %q", got, want)
	}
}

func TestACommandWithoutEventsCountsAsOneTest(t *testing.T) {
	if got := counts(feed(io.Discard, "all is well\n", nil)); got != [3]int{1, 0, 0} {
		t.Errorf("a linter that is content counts %v", got)
	}
	if got := counts(feed(io.Discard, "x.go:1: bad\n", errors.New("exit status 1"))); got != [3]int{0, 1, 0} {
		t.Errorf("a linter that complains counts %v", got)
	}
}

func TestAHungGroupIsKilledWithItsChildren(t *testing.T) {
	r := run(group{name: "hung", budget: 50 * time.Millisecond, command: "sleep 600 & wait"})
	if r.failed != 1 || r.err == nil {
		t.Errorf("failed %d with %v, want one failure", r.failed, r.err)
	}
	if r.took > time.Minute {
		t.Errorf("took %v", r.took)
	}
}

func TestTheReportEndsWithTheTotalsAndIsFaithful(t *testing.T) {
	var out strings.Builder
	good := result{group: group{name: "unit", budget: time.Second}, passed: 7, took: 2 * time.Second}
	bad := result{group: group{name: "peers", budget: time.Second}, failed: 1, skipped: 2, err: errors.New("exit status 1")}
	if !report(io.Discard, []result{good}) {
		t.Error("a run without failures is reported as failed")
	}
	if report(&out, []result{good, bad}) {
		t.Error("a run with a failure is reported as good")
	}
	if !strings.HasSuffix(out.String(), "\n7 passed, 1 failed, 2 skipped\n") {
		t.Errorf("the report ends with %q", out.String())
	}
	if !strings.Contains(out.String(), "over budget") {
		t.Errorf("a late group is not marked:\n%s", out.String())
	}
}

func TestGroupsThatCannotBeReadAreRefused(t *testing.T) {
	for _, arg := range []string{"", "unit", "unit:10", "unit:x:true", "unit:0:true", ":10:true", "unit:10: "} {
		if _, err := parseGroups([]string{arg}); err == nil {
			t.Errorf("%q was taken", arg)
		}
	}
	if _, err := parseGroups(nil); err == nil {
		t.Error("no group at all was taken")
	}
	if g, err := parseGroups([]string{"unit:10:go test a:b"}); err != nil || g[0].command != "go test a:b" {
		t.Errorf("got %v, %v", g, err)
	}
}

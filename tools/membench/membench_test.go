package main

import (
	"strconv"
	"strings"
	"testing"
)

func TestEachQuestionIsAnsweredInOneLine(t *testing.T) {
	questions := []string{"lookup 64 rand", "lookup 64 seq", "lookup 0 rand", "heap 3 64 1", "heap 1 64 99", "nonsense", ""}
	var out strings.Builder
	done := make(chan error)
	go func() { done <- serve(strings.NewReader(strings.Join(questions, "\n")), &out) }() // it pins its thread
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	answers := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	if len(answers) != len(questions)-1 { // nobody ends the last one, and it is empty
		t.Fatalf("%d answers: %q", len(answers), answers)
	}
	for i, a := range answers {
		n, err := strconv.ParseFloat(a, 64)
		if good := strings.HasPrefix(questions[i], "lookup"); good != (err == nil && n > 0) || !good && !strings.HasPrefix(a, "error ") {
			t.Errorf("%q is answered with %q", questions[i], a)
		}
	}
}

func TestAMeasureThatNobodyAnsweredIsShownAsSkipped(t *testing.T) {
	var out strings.Builder
	err := report(&out, []result{
		{Section: "s", What: "fast", Unit: "ns", Ours: 2, Theirs: 8, Other: dpdk, Ratios: []float64{3, 4, 5}, Ratio: 4, Goal: 2},
		{Section: "s", What: "slow", Unit: "ns", Ours: 2, Theirs: 1, Other: kernel, Ratios: []float64{0.5}, Ratio: 0.5, Goal: 1},
		{Section: "s", What: "alone", Unit: "ns", Ours: 2, Other: dpdk, Goal: 1},
	})
	if err != nil {
		t.Fatal(err)
	}
	for what, verdict := range map[string]string{"fast": "met", "slow": "missed", "alone": "skipped"} {
		found := false
		for line := range strings.Lines(out.String()) {
			words := strings.Fields(line)
			found = found || len(words) > 1 && words[0] == what && words[len(words)-1] == verdict
		}
		if !found {
			t.Errorf("%s is not told to be %s:\n%s", what, verdict, &out)
		}
	}
}

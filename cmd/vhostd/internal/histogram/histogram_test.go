package histogram

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Every quantile is what sorting would give, but for the width of a bucket; and
// two histograms merged are one that saw everything.
func TestQuantilesAreThoseOfTheSortedValues(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOfN(rapid.Int64Range(0, math.MaxInt64), 1, 200).Draw(t, "values")
		var halves [2]Histogram
		for i, v := range values {
			halves[i%2].Add(time.Duration(v))
		}
		h := halves[0]
		h.Merge(&halves[1])
		slices.Sort(values)
		for _, q := range []float64{0, 0.1, 0.5, 0.9, 0.99, 1} {
			rank := max(int(q*float64(len(values))+0.5), 1) - 1
			want, got := values[rank], int64(h.Quantile(q))
			if got < want || float64(got-want) > float64(want)/32 {
				t.Fatalf("quantile %v of %v is %d, want %d to %d", q, values, got, want, want+want/32)
			}
		}
		s := h.Summary()
		if s.Count != uint64(len(values)) || s.Min != time.Duration(values[0]) || s.Max != time.Duration(values[len(values)-1]) {
			t.Fatalf("%+v is not of %v", s, values)
		}
	})
}

func TestBucketsHaveNoGapAndNoOverlap(t *testing.T) {
	for i := 1; i < buckets-1; i++ {
		at := low(i)
		if at < 0 {
			break // durations end here
		}
		if bucket(uint64(at)) != i || bucket(uint64(at)-1) != i-1 {
			t.Fatalf("bucket %d begins at %d, which is in bucket %d, and the one before in %d", i, at, bucket(uint64(at)), bucket(uint64(at)-1))
		}
	}
}

func TestCountingDoesNotAllocate(t *testing.T) {
	var h, sum Histogram
	if n := testing.AllocsPerRun(100, func() { h.Add(time.Microsecond); sum.Merge(&h) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestADrawingHasABarForWhatThereIs(t *testing.T) {
	var h Histogram
	var b strings.Builder
	if err := h.Draw(&b); err != nil || b.Len() > 0 {
		t.Errorf("nothing is drawn as %q, %v", &b, err)
	}
	for range 3 {
		h.Add(1000 * time.Nanosecond)
	}
	h.Add(5 * time.Microsecond)
	h.Add(-1)
	if err := h.Draw(&b); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	if len(lines) != 1+14 || !strings.Contains(lines[11], "60.00 %  ####") || !strings.HasSuffix(lines[14], "#") {
		t.Errorf("drawn:\n%s", &b)
	}
}

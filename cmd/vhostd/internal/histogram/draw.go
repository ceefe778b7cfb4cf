package histogram

import (
	"fmt"
	"io"
	"math/bits"
	"strings"
	"time"
)

// width is the length of the longest bar.
const width = 40

// Draw writes the figures that people ask for, and a bar for each power of two.
func (h *Histogram) Draw(w io.Writer) error {
	s := h.Summary()
	if s == nil {
		return nil
	}
	var b strings.Builder
	fmt.Fprintf(&b, "min %v  mean %v  p50 %v  p90 %v  p99 %v  p99.9 %v  max %v\n",
		Round(s.Min), Round(s.Mean), Round(s.P50), Round(s.P90), Round(s.P99), Round(s.P999), Round(s.Max))
	octaves, most := h.octaves()
	for i := bits.Len64(uint64(h.min)); i <= bits.Len64(uint64(h.max)); i++ {
		bar := strings.Repeat("#", int((octaves[i]*width+most-1)/most))
		fmt.Fprintf(&b, "%8v … %-8v %6.2f %%  %s\n", Round(from(i)), Round(from(i+1)), 100*float64(octaves[i])/float64(h.n), bar)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// octaves sums the buckets up by powers of two; most is the largest of the sums.
func (h *Histogram) octaves() (sums [65]uint64, most uint64) {
	for i, c := range h.counts {
		at := bits.Len64(uint64(low(i)))
		sums[at] += c
		most = max(most, sums[at])
	}
	return sums, most
}

// from is the least duration whose length in bits is n.
func from(n int) time.Duration {
	switch {
	case n == 0:
		return 0
	case n > 63:
		return 1<<63 - 1
	}
	return 1 << (n - 1)
}

// Round leaves three digits of a duration, or a few more.
func Round(d time.Duration) time.Duration {
	for unit := time.Second; unit > time.Nanosecond; unit /= 1000 {
		if d >= unit {
			return d.Round(unit / 100)
		}
	}
	return d
}

package histogram

import (
	"math/bits"
	"time"
)

// Each power of two has 32 buckets, so that a bucket is at most 1/32 of what it
// holds. Below 64 each nanosecond has its own.
const (
	perOctave = 32
	buckets   = 59*perOctave + perOctave
)

// Histogram counts durations. The zero Histogram is empty. It is for one
// goroutine.
type Histogram struct {
	counts   [buckets]uint64
	n        uint64
	sum      float64 // nanoseconds; a sum of many long ones does not fit 64 bits
	min, max time.Duration
}

// bucket is where v is counted.
func bucket(v uint64) int {
	shift := max(bits.Len64(v)-6, 0)
	return shift*perOctave + int(v>>shift)
}

// low is the least value of bucket i.
func low(i int) time.Duration {
	shift := max(i/perOctave-1, 0)
	return time.Duration(uint64(i-shift*perOctave) << shift)
}

// Add counts a duration. One below zero, as clocks of two processors may make it,
// is zero.
func (h *Histogram) Add(d time.Duration) {
	d = max(d, 0)
	h.counts[bucket(uint64(d))]++
	if h.n == 0 || d < h.min {
		h.min = d
	}
	h.max = max(h.max, d)
	h.n++
	h.sum += float64(d)
}

// Merge adds what o has counted.
func (h *Histogram) Merge(o *Histogram) {
	if o.n == 0 {
		return
	}
	for i, c := range o.counts {
		h.counts[i] += c
	}
	if h.n == 0 || o.min < h.min {
		h.min = o.min
	}
	h.max = max(h.max, o.max)
	h.n += o.n
	h.sum += o.sum
}

// Count is how many there are.
func (h *Histogram) Count() uint64 { return h.n }

// Quantile gives the duration that the share q of all does not exceed, rounded up
// to the end of its bucket: 0.5 is the median. There is none of nothing: 0.
func (h *Histogram) Quantile(q float64) time.Duration {
	if h.n == 0 {
		return 0
	}
	want := max(uint64(q*float64(h.n)+0.5), 1)
	var seen uint64
	for i, c := range h.counts {
		if seen += c; seen >= want {
			return max(min(low(i+1)-1, h.max), h.min)
		}
	}
	return h.max
}

// Summary is what of a histogram goes into a report, in nanoseconds.
type Summary struct {
	Count uint64        `json:"count"`
	Min   time.Duration `json:"min_ns"`
	Mean  time.Duration `json:"mean_ns"`
	P50   time.Duration `json:"p50_ns"`
	P90   time.Duration `json:"p90_ns"`
	P99   time.Duration `json:"p99_ns"`
	P999  time.Duration `json:"p999_ns"`
	Max   time.Duration `json:"max_ns"`
}

// Summary sums up; nil: there is nothing.
func (h *Histogram) Summary() *Summary {
	if h.n == 0 {
		return nil
	}
	return &Summary{
		Count: h.n, Min: h.min, Mean: time.Duration(h.sum / float64(h.n)), Max: h.max,
		P50: h.Quantile(0.5), P90: h.Quantile(0.9), P99: h.Quantile(0.99), P999: h.Quantile(0.999),
	}
}

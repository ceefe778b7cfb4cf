package text

import (
	"fmt"
	"math"
	"time"
)

// Size writes bytes in binary units, as exactly as one decimal allows.
func Size(n uint64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	units := []string{"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	v := float64(n) / 1024
	// 1023.95 and more would be written as 1024.0. No uint64 runs out of units.
	for v >= 1023.95 {
		v /= 1024
		units = units[1:]
	}
	if v == math.Trunc(v) {
		return fmt.Sprintf("%.0f %s", v, units[0])
	}
	return fmt.Sprintf("%.1f %s", v, units[0])
}

// Age writes a time span in its two largest units. A span that is not there
// (negative: clocks were set) is zero.
func Age(d time.Duration) string {
	s := int64(max(d, 0) / time.Second)
	switch {
	case s < 60:
		return fmt.Sprintf("%ds", s)
	case s < 3600:
		return fmt.Sprintf("%dm%02ds", s/60, s%60)
	case s < 86400:
		return fmt.Sprintf("%dh%02dm", s/3600, s/60%60)
	}
	return fmt.Sprintf("%dd%02dh", s/86400, s/3600%24)
}

// Count writes a number of things with three digits and a decimal unit, as rates
// are told: 1.49M.
func Count(v float64) string {
	unit := ""
	for _, next := range []string{"k", "M", "G", "T", "P"} {
		if v < 999.5 {
			break
		}
		v, unit = v/1000, next
	}
	switch {
	case v >= 99.95 || v == math.Trunc(v) && unit == "":
		return fmt.Sprintf("%.0f%s", v, unit)
	case v >= 9.995:
		return fmt.Sprintf("%.1f%s", v, unit)
	}
	return fmt.Sprintf("%.2f%s", v, unit)
}

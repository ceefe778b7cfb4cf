package memflag

import (
	"fmt"
	"math/bits"
	"strconv"
	"strings"
)

// Size is a number of bytes, written with a unit: "64M", "1G", "4KiB"; "0" needs
// none.
type Size uint64

const units = "KMGT" // each is 1024 of the one before

func (s Size) String() string {
	n, unit := uint64(s), ""
	for i := 0; i < len(units) && n != 0 && n%1024 == 0; i++ {
		n, unit = n/1024, units[i:i+1]
	}
	if unit == "" && n != 0 {
		unit = "B"
	}
	return strconv.FormatUint(n, 10) + unit
}

// MarshalText writes the size in its largest unit that loses nothing.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads a size. A number alone is not taken: elsewhere it means
// mebibytes as often as bytes.
func (s *Size) UnmarshalText(text []byte) error {
	v := string(text)
	digits := strings.TrimRight(v, "KMGTkmgtiBb")
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil {
		return fmt.Errorf("%.40q is no size like 64M", v)
	}
	shift, ok := shiftOf(v[len(digits):])
	switch {
	case !ok:
		return fmt.Errorf("%.40q has a unit that is none of K, M, G, T", v)
	case shift == 0 && n != 0 && len(digits) == len(v):
		return fmt.Errorf("%.40q has no unit: say %sM, or %sB if it is bytes", v, digits, digits)
	case bits.Len64(n)+shift > 64:
		return fmt.Errorf("%.40q is more than there can be", v)
	}
	*s = Size(n << shift)
	return nil
}

// shiftOf gives the power of two that a unit stands for.
func shiftOf(unit string) (shift int, ok bool) {
	unit = strings.ToUpper(unit)
	if unit == "" || unit == "B" {
		return 0, true
	}
	i := strings.IndexByte(units, unit[0])
	rest := unit[1:]
	return 10 * (i + 1), i >= 0 && (rest == "" || rest == "B" || rest == "IB")
}

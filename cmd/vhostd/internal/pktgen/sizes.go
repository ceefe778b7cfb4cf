package pktgen

import (
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
)

// Sizes are the sizes that frames have, one after the other and then again. They
// count what is in a buffer: all of a frame but its FCS, which virtio has none of.
type Sizes []int

// Limits of a size, and of how many there may be.
const (
	minFrame = headers + stampLen // 60, the shortest that Ethernet has
	maxFrame = 9216
	mostSize = 4096
)

// imix is the Internet mix that is used most: 64, 594 and 1518 bytes with FCS,
// seven to four to one.
const imix = "60:7,590:4,1514:1"

// UnmarshalText reads "60", "60,590,1514", "60:7,1514:1" with numbers of each, or
// "imix". Sizes that have numbers are mixed, always the same way.
func (s *Sizes) UnmarshalText(text []byte) error {
	list := string(text)
	if list == "imix" {
		list = imix
	}
	var all Sizes
	mixed := false
	for entry := range strings.SplitSeq(list, ",") {
		number, times, weighed := strings.Cut(entry, ":")
		size, err := strconv.Atoi(number)
		if err != nil || size < minFrame || size > maxFrame {
			return fmt.Errorf("%q is no size of a frame: use %d to %d", number, minFrame, maxFrame)
		}
		n := 1
		if weighed {
			mixed = true
			if n, err = strconv.Atoi(times); err != nil || n < 1 || n > mostSize {
				return fmt.Errorf("%q of frames of %d bytes: use 1 to %d", times, size, mostSize)
			}
		}
		all = append(all, slices.Repeat(Sizes{size}, n)...)
		if len(all) > mostSize {
			return fmt.Errorf("more than %d sizes: use smaller numbers", mostSize)
		}
	}
	if mixed {
		rand.New(rand.NewPCG(1, 2)).Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	}
	*s = all
	return nil
}

// MAC is an Ethernet address.
type MAC [6]byte

// UnmarshalText reads "52:54:00:12:34:56".
func (m *MAC) UnmarshalText(text []byte) error {
	a, err := net.ParseMAC(string(text))
	if err != nil || len(a) != len(m) {
		return fmt.Errorf("%q is no Ethernet address: use 52:54:00:12:34:56", text)
	}
	copy(m[:], a)
	return nil
}

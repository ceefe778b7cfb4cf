package text

import (
	"math"
	"strings"
	"testing"
	"time"
)

func TestColumnsLineUp(t *testing.T) {
	table := NewTable("PORT", ">FRAMES", "SOCKET")
	table.Row("blue", 5, "/run/a.sock")
	table.Row("ünder", 1234567)
	table.Row("x", "", "")
	var b strings.Builder
	if err := table.Write(&b, "  "); err != nil {
		t.Fatal(err)
	}
	want := "" +
		"  PORT    FRAMES  SOCKET\n" +
		"  blue         5  /run/a.sock\n" +
		"  ünder  1234567  -\n" +
		"  x            -  -\n"
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
}

func TestCellsCannotSteerTheTerminal(t *testing.T) {
	table := NewTable("PEER")
	table.Row("a\x1b[2Jb\nc\u009bd\xff")
	var b strings.Builder
	if err := table.Write(&b, ""); err != nil {
		t.Fatal(err)
	}
	if want := "PEER\na?[2Jb?c?d?\n"; b.String() != want {
		t.Errorf("got %q, want %q", b.String(), want)
	}
}

func TestSizesReadWellAtTheEdgesOfUnits(t *testing.T) {
	for n, want := range map[uint64]string{
		0: "0 B", 1023: "1023 B", 1024: "1 KiB", 1536: "1.5 KiB", 1 << 20: "1 MiB", 1<<20 - 1: "1.0 MiB",
		3 << 29: "1.5 GiB", 1 << 40: "1 TiB", math.MaxUint64: "16 EiB",
	} {
		if got := Size(n); got != want {
			t.Errorf("%d bytes are %q, want %q", n, got, want)
		}
	}
}

func TestAgesHaveTheirTwoLargestUnits(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Hour: "0s", 999 * time.Millisecond: "0s", 59 * time.Second: "59s", time.Minute: "1m00s",
		time.Hour - time.Second: "59m59s", 90 * time.Minute: "1h30m", 49 * time.Hour: "2d01h",
	} {
		if got := Age(d); got != want {
			t.Errorf("%v is %q, want %q", d, got, want)
		}
	}
}

func TestCountsKeepThreeDigitsAtTheEdgesOfUnits(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 7: "7", 0.25: "0.25", 999: "999", 999.6: "1.00k", 1000: "1.00k", 9994: "9.99k", 9996: "10.0k",
		99940: "99.9k", 99960: "100k", 999600: "1.00M", 1488095: "1.49M", 1e10: "10.0G", 1e18: "1000P",
	} {
		if got := Count(v); got != want {
			t.Errorf("%v is %q, want %q", v, got, want)
		}
	}
}

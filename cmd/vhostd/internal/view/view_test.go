package view

import (
	"bytes"
	"flag"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/vhostd/vhostd/cmd/vhostd/internal/control"
)

var update = flag.Bool("update", false, "write testdata anew")

var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func ago(d time.Duration) time.Time { return now.Add(-d) }

// golden compares what lay prints with testdata/name.txt, which a person read.
func golden[T any](t *testing.T, name string, lay func(io.Writer, control.List[T]) error, items ...T) {
	t.Helper()
	var b bytes.Buffer
	if err := lay(&b, control.List[T]{Time: now, Items: items}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", name+".txt")
	if *update {
		if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), b.String()); d != "" {
		t.Error(d)
	}
}

var (
	acked   = control.Bits{Bits: 0x130008000, Names: []string{"mrg_rxbuf", "indirect_desc", "event_idx", "version_1"}}
	offered = control.Bits{Bits: 0x530008001, Names: []string{"csum", "mrg_rxbuf", "indirect_desc", "event_idx", "version_1", "ring_packed"}}
	hostile = "a\x1b[2Jb\nc"
)

func TestPortsAreALineEach(t *testing.T) {
	golden(t, "ports", Ports,
		control.Port{
			Name: "blue", Group: "default", Socket: "/run/vhostd/blue.sock", Role: "server", State: control.Running,
			Since: ago(90 * time.Minute), Peer: "pid 123 uid 0", MTU: 9000, Offered: offered, Features: acked, Connects: 3,
			LastError: &control.Failure{At: ago(time.Hour), Error: "SET_MEM_TABLE: " + hostile},
		},
		control.Port{
			Name: "red", Group: "left", Socket: "/run/vhostd/red.sock", Role: "client", State: control.Dialling, Since: ago(12 * time.Second),
		},
	)
}

func TestNoPeerCanSteerTheTerminalFromAnyAnswer(t *testing.T) {
	golden(t, "hostile-messages", Messages, control.Messages{Port: "blue", Peer: hostile, Messages: []control.Message{
		{At: ago(time.Second), Request: hostile, Detail: hostile, Result: hostile},
	}})
	golden(t, "hostile-queues", Queues, control.Queues{
		Port: "blue", Peer: hostile, State: control.Connected, Since: now, Socket: hostile,
		LastError: &control.Failure{At: now, Error: hostile},
		Rings:     []control.Ring{{Name: hostile, Broken: hostile, BadChains: map[string]uint64{hostile: 1}, LastBad: hostile}},
	})
	golden(t, "hostile-mem", Memory, control.Memory{
		Port: "blue", Peer: hostile, Regions: []control.Region{{Seals: hostile, Mapped: hostile, Since: now}},
	})
}

func TestMemoryHasEveryRegionAndTheTotals(t *testing.T) {
	golden(t, "mem", Memory,
		control.Memory{
			Port: "blue", Peer: "pid 123 uid 0", Slots: 509, Changed: ago(12 * time.Second),
			Size: 5 << 29, Resident: 230<<20 + 4096,
			ByGuest: control.Index{Kind: "flat", Frame: 2 << 20, Bytes: 12 << 10},
			ByPeer:  control.Index{Kind: "search"},
			Regions: []control.Region{
				{
					Guest: 0, Peer: 0x7f1200000000, Size: 2 << 30, Device: 0x1, Inode: 1046, PageSize: 4096,
					Seals: "shrink", Resident: 230 << 20, Mapped: "0x7fc000000000", Since: ago(26 * time.Hour),
				},
				{
					Guest: 0x100000000, Peer: 0x7f1280000000, Size: 1 << 29, Device: 0x1, Inode: 1046, Offset: 2 << 30,
					PageSize: 2 << 20, Seals: "none", Resident: 4096, Mapped: "0x7fc080000000", Since: ago(12 * time.Second),
				},
			},
		},
		control.Memory{Port: "red", Peer: "pid 124 uid 0", Slots: 509},
	)
}

func TestQueuesHaveAllThatBothSidesSee(t *testing.T) {
	golden(t, "queues", Queues,
		control.Queues{
			Port: "blue", Socket: "/run/vhostd/blue.sock", Role: "server", State: control.Running, Peer: "pid 123 uid 0",
			Since: ago(90 * time.Minute), Connects: 3, Offered: offered, Features: acked,
			Protocol: control.Bits{Bits: 0x8009, Names: []string{"MQ", "REPLY_ACK", "CONFIGURE_MEM_SLOTS"}}, Status: 0xf,
			LastError: &control.Failure{At: ago(time.Hour), Error: "connection reset\nby peer"},
			Rings: []control.Ring{
				{
					Index: 0, Name: "receiveq1", Size: 256, Started: true, Enabled: true,
					Desc: 0x7f1200001000, Avail: 0x7f1200002000, Used: 0x7f1200003000,
					LastAvail: 65535, LastUsed: 65530, AvailFlags: 1, AvailIdx: 200, UsedEvent: 65529, UsedFlags: 1, UsedIdx: 65530, AvailEvent: 199,
					KickFD: 12, CallFD: 13, ErrFD: -1, Calls: 1000, CallsSuppressed: 31000, Bursts: 40000, Chains: 1000000, Bytes: 1 << 30,
				},
				{
					Index: 1, Name: "transmitq1", Size: 256, Started: true, Enabled: true, Broken: "head 300 of 256",
					KickFD: 14, CallFD: 15, ErrFD: 16, Bursts: 3, Chains: 4, Unlogged: 7,
					BadChains: map[string]uint64{"loop": 2, "address not mapped": 1}, LastBad: "loop",
				},
				{Index: 2, Name: "receiveq2", KickFD: -1, CallFD: -1, ErrFD: -1},
				{Index: 3, Name: "transmitq2", Size: 8, Started: true, KickFD: -1, CallFD: -1, ErrFD: -1},
				{Index: 5, Name: "transmitq3", Size: 8, Started: true, Enabled: true, Polled: true, KickFD: -1, CallFD: -1, ErrFD: -1},
			},
		},
		control.Queues{Port: "red", Socket: "/run/vhostd/red.sock", Role: "client", State: control.Dialling, Since: ago(12 * time.Second)},
	)
}

func TestStatsAddUpPairsAndTellDropsByReason(t *testing.T) {
	golden(t, "stats", Stats,
		control.Stats{
			Port: "blue", Counts: control.Counts{InFrames: 30, InBytes: 3000, OutFrames: 1 << 40, OutBytes: 1 << 50},
			Pairs: []control.PairStats{
				{Pair: 0, Counts: control.Counts{InFrames: 10, InBytes: 1000, OutFrames: 1 << 40, OutBytes: 1 << 50}},
				{Pair: 1, Counts: control.Counts{InFrames: 20, InBytes: 2000}},
			},
			Drops: map[string]uint64{"receiver full": 5, "too short": 1, "never": 0},
		},
		control.Stats{Port: "red", Pairs: []control.PairStats{{}}},
	)
	golden(t, "stats-without-drops", Stats, control.Stats{Port: "red", Pairs: []control.PairStats{{}}})
}

func TestAddressesHaveTheirPortAndAge(t *testing.T) {
	golden(t, "mac", MACs,
		control.MAC{Group: "default", MAC: "52:54:00:00:00:01", Port: "blue", Age: 0.4},
		control.MAC{Group: "left", MAC: "52:54:00:00:00:02", Port: "red", Age: 299},
	)
}

func TestMessagesComeWithTheirResults(t *testing.T) {
	golden(t, "messages", Messages, control.Messages{Port: "blue", Peer: "pid 123 uid 0", Messages: []control.Message{
		{At: ago(time.Minute), Request: "SET_FEATURES", Detail: "0x130008000", Result: "ok"},
		{At: ago(time.Second), Request: "SET_MEM_TABLE", Detail: "9 regions", Result: "refused: at most 8"},
	}})
}

func TestDisksAreALineEach(t *testing.T) {
	golden(t, "disks", Disks,
		control.Disk{
			Port: "root", File: "/srv/root.img", Size: 10 << 30, Queues: 2, Direct: true, Reads: 1000, ReadBytes: 4096000,
			Writes: 20, WriteBytes: 81920, Flushes: 3, Discards: 4, Zeroes: 5, Failed: 1, Refused: 2, Unsupported: 7,
			LastError: &control.Failure{At: ago(time.Minute), Error: "pwritev2: no space left on device"},
		},
		control.Disk{Port: "cd", File: "/srv/" + hostile, Size: 1 << 20, ReadOnly: true, Queues: 1},
	)
}

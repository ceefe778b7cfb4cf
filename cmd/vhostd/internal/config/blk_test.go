package config

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A disk is the same on the command line and in a file.
func TestBlkReadsAsItIsMeant(t *testing.T) {
	want := Blk{
		Name: "a", Socket: "/s", File: "/d", Mode: Server, Queues: 4, Owner: Owner{"7", "8"}, Perm: 0o600,
		Serial: "x", ReadOnly: true, Direct: true, Origin: "--blk",
	}
	got, err := ParseBlk("a=/s,file=/d,ro,direct=on,serial=x,queues=4,owner=7:8,perm=0600,mode=server")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	f, err := parse("f.toml", []byte(`[[blk]]
name = "a"
socket = "/s"
file = "/d"
ro = true
direct = true
serial = "x"
queues = 4
owner = "7:8"
perm = "0600"
`))
	if err != nil {
		t.Fatal(err)
	}
	want.Origin = "f.toml:1:3"
	if d := cmp.Diff([]Blk{want}, f.Blks); d != "" {
		t.Error(d)
	}
}

func TestMistakesInADiskAreNamed(t *testing.T) {
	for give, want := range map[string]string{
		"a=/s":                               "is not NAME=SOCKET,file=DISK",
		"a=/s,ro":                            "option file: is missing",
		"a=/s,file=/d,ro=maybe":              `option ro: "maybe" is neither on nor off`,
		"a=/s,file=/d,file=/e":               "option file: is given twice",
		"a=/s,file=/d,queues=0":              "option queues:",
		"a=/s,file=/d,mtu=9":                 "option mtu: there is none of this name; a disk has file",
		"a=/s,file=/d,":                      "a comma too many",
		"1=/s,file=/d":                       "begins with a letter",
		"a=/s,file=/d,mode=client,perm=0600": "with mode=client QEMU makes the socket",
	} {
		if _, err := ParseBlk(give); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v does not say %q", give, err, want)
		}
	}
	b, err := ParseBlk("a=/s,file=/d")
	if err != nil {
		t.Fatal(err)
	}
	if err := Check(nets(t, "b=/s"), []Blk{b}, ""); err == nil || !strings.Contains(err.Error(), `/s is the socket of port "b"`) {
		t.Errorf("a disk at a port's socket: %v", err)
	}
}

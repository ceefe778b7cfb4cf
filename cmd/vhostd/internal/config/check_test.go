package config

import (
	"strings"
	"testing"
)

// nets parses ports that are right by themselves.
func nets(t *testing.T, all ...string) []Net {
	t.Helper()
	var out []Net
	for _, s := range all {
		n, err := ParseNet(s)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, n)
	}
	return out
}

func TestDuplicatesAreRefusedByName(t *testing.T) {
	for _, c := range []struct {
		name string
		nets []string
		want string
	}{
		{"nothing", nil, "there is no port: give --net"},
		{"name", []string{"a=/a", "a=/b"}, `port "a": a port of this name is there already (--net, /a)`},
		{"socket", []string{"a=/x", "b=/./x"}, `port "b": option socket: /x is the socket of port "a" already`},
		{"control", []string{"a=/control"}, `port "a": option socket: /control is the control socket`},
		{"MAC", []string{"a=/a,mac=52:54:00:00:00:01", "b=/b,mac=52:54:00:00:00:01"},
			`port "b": option mac: 52:54:00:00:00:01 is the address of port "a" in the same group "default"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := Check(nets(t, c.nets...), nil, "/control")
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v does not say %q", err, c.want)
			}
		})
	}
}

func TestRelativeAndAbsolutePathsOfOneSocketAreOne(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	err := Check(nets(t, "a=x", "b="+dir+"/x"), nil, "")
	if err == nil || !strings.Contains(err.Error(), dir+`/x is the socket of port "a" already`) {
		t.Errorf("error %v", err)
	}
	one := nets(t, "a=x")
	if err := Check(one, nil, ""); err != nil || one[0].Socket != dir+"/x" {
		t.Errorf("the socket is %s, %v", one[0].Socket, err)
	}
}

func TestGroupsMayShareAddresses(t *testing.T) {
	all := nets(t, "a=/a,mac=52:54:00:00:00:01", "b=/b,mac=52:54:00:00:00:01,group=other")
	if err := Check(all, nil, "/control"); err != nil {
		t.Error(err)
	}
}

func TestPortsWithoutAddressGetOneThatStaysAndIsTheirOwn(t *testing.T) {
	first := nets(t, "a=/a", "b=/b")
	if err := Check(first, nil, ""); err != nil {
		t.Fatal(err)
	}
	if first[0].MAC.String() == first[1].MAC.String() {
		t.Errorf("both ports got %s", first[0].MAC)
	}
	// A port that claims the address that a would get makes a take another.
	taken := first[0].MAC.String()
	second := nets(t, "a=/a", "c=/c,mac="+taken)
	if err := Check(second, nil, ""); err != nil {
		t.Fatal(err)
	}
	if second[0].MAC.String() == taken || second[0].MAC[0]&1 != 0 {
		t.Errorf("a got %s, which is c's or no device's", second[0].MAC)
	}
	third := nets(t, "b=/z", "a=/y")
	if err := Check(third, nil, ""); err != nil {
		t.Fatal(err)
	}
	if third[1].MAC.String() != taken {
		t.Errorf("a got %s at this start and %s at that", third[1].MAC, taken)
	}
}

package config

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vhostd/vhostd/virtio"
)

func feature(t *testing.T, name string) virtio.Features {
	t.Helper()
	f, err := virtio.ParseFeature(virtio.Net, name)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestNetWithEveryOptionMeansWhatItSays(t *testing.T) {
	got, err := ParseNet("blue=/run//a.sock,mode=server,mac=52:54:00:00:00:01,queues=4,owner=7:8," +
		"features=+mtu,-mrg_rxbuf,group=left,perm=0600,mtu=9000")
	if err != nil {
		t.Fatal(err)
	}
	want := Net{
		Name: "blue", Socket: "/run/a.sock", Mode: Server, MAC: []byte{0x52, 0x54, 0, 0, 0, 1}, Queues: 4,
		Owner: Owner{"7", "8"}, Group: "left", Perm: 0o600, MTU: 9000,
		Features: Features{Add: feature(t, "mtu"), Remove: feature(t, "mrg_rxbuf")}, Origin: "--net",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestNetAloneHasTheDefaults(t *testing.T) {
	got, err := ParseNet("blue=/a.sock")
	if err != nil {
		t.Fatal(err)
	}
	want := Net{Name: "blue", Socket: "/a.sock", Queues: 1, Group: "default", Perm: 0o660, Origin: "--net"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestMistakesInNetNameThePortAndTheOption(t *testing.T) {
	for give, want := range map[string]string{
		"blue":                              `--net: "blue" is not NAME=SOCKET`,
		"=/a":                               `the name is empty`,
		"9=/a":                              `port "9": the name "9" may have letters`,
		"a b=/a":                            `begins with a letter`,
		strings.Repeat("a", 33) + "=/a":     `longer than 32`,
		"a=":                                `port "a": option socket: the path is empty`,
		"a=/" + strings.Repeat("x", 107):    `option socket: the path is 108 bytes long`,
		"a=/a\n":                            `option socket`,
		"a=/a,":                             `there is a comma too many`,
		"a=/a,colour=red":                   `option colour: there is none of this name`,
		"a=/a,queues=1,queues=2":            `option queues: is given twice`,
		"a=/a,queues=0":                     `option queues: "0" is not a number from 1 to 64`,
		"a=/a,queues=65":                    `option queues: "65"`,
		"a=/a,queues=99999999999999999999":  `option queues`,
		"a=/a,mtu=67":                       `option mtu: "67" is not a number from 68 to 65535`,
		"a=/a,mtu=65536":                    `option mtu`,
		"a=/a,mac=nonsense":                 `option mac: "nonsense" is not a MAC address`,
		"a=/a,mac=01:00:00:00:00:01":        `option mac: 01:00:00:00:00:01 is a group address`,
		"a=/a,mac=00:00:00:00:00:00":        `option mac`,
		"a=/a,mac=02:00:00:00:00:00:00:01":  `option mac`,
		"a=/a,mode=both":                    `option mode: "both" is neither server`,
		"a=/a,mode=client,perm=0600":        `option mode: with mode=client QEMU makes the socket`,
		"a=/a,mode=client,owner=root":       `option mode: with mode=client`,
		"a=/a,perm=0666":                    `option perm: "0666" lets the wrong people in`,
		"a=/a,perm=0460":                    `option perm`,
		"a=/a,perm=rw":                      `option perm: "rw" is not an octal mode`,
		"a=/a,owner=":                       `option owner: "" is not USER`,
		"a=/a,owner=root:":                  `option owner`,
		"a=/a,owner=a:b:c":                  `option owner`,
		"a=/a,features=mq":                  `option features: "mq" has neither + (offer it) nor -`,
		"a=/a,features=+nonsense":           `option features: no feature is named "nonsense"`,
		"a=/a,features=+mq,-mq":             `option features: mq is named twice`,
		"a=/a,group=":                       `option group: the name is empty`,
		"a=/a,features=+mq,-csum,queues=no": `option queues`,
	} {
		_, err := ParseNet(give)
		if err == nil {
			t.Errorf("%q was taken", give)
		} else if !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %q does not say %q", give, err, want)
		}
	}
}

func TestOwnerThatIsNotThereIsNamed(t *testing.T) {
	_, _, err := Owner{User: "no-such-user-here"}.IDs()
	if err == nil || !strings.Contains(err.Error(), `no user "no-such-user-here"`) {
		t.Errorf("error %v does not name the user", err)
	}
	_, _, err = Owner{Group: "99999999999"}.IDs()
	if err == nil || !strings.Contains(err.Error(), "too large") {
		t.Errorf("error %v does not say that the number is too large", err)
	}
	uid, gid, err := Owner{Group: "7"}.IDs()
	if err != nil || uid != -1 || gid != 7 {
		t.Errorf(":7 gives %d, %d, %v", uid, gid, err)
	}
}

// FuzzParseNet holds that whatever is taken is whole, and whatever is not is
// told as a mistake of --net.
func FuzzParseNet(f *testing.F) {
	f.Add("blue=/run/a.sock,mode=client,mac=52:54:00:00:00:01,queues=4,mtu=1500")
	f.Add("a=/a,features=+mq,-csum,perm=0660,owner=root:kvm,group=x")
	f.Add("a=/a,features,,+=,")
	f.Fuzz(func(t *testing.T, s string) {
		n, err := ParseNet(s)
		if err != nil {
			if e, ok := errors.AsType[*Error](err); !ok || e.Origin != "--net" {
				t.Fatalf("%q: %v is not told as a mistake of --net", s, err)
			}
			return
		}
		if checkName(n.Name) != nil || checkName(n.Group) != nil || n.Socket == "" || len(n.Socket) > maxSocket {
			t.Fatalf("%q: name, group or socket is not usable: %+v", s, n)
		}
		if n.Queues < 1 || n.Queues > maxPairs || n.MTU != 0 && n.MTU < minMTU || n.Features.Add&n.Features.Remove != 0 {
			t.Fatalf("%q: out of its limits: %+v", s, n)
		}
		if n.Perm&^os.FileMode(0o660) != 0 || n.MAC != nil && n.MAC[0]&1 != 0 {
			t.Fatalf("%q: lets in more than it may: %+v", s, n)
		}
	})
}

package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestFileMeansWhatTheFlagsMean(t *testing.T) {
	text := `
[control]
socket = "/run/v.sock"
perm = "0600"
owner = ":kvm"

[log]
level = "debug"
format = "json"

[switch]
macs = 16
age = "5s"

[[net]]
name = "blue"
socket = "/a.sock"
mac = "52:54:00:00:00:01"
queues = 4
owner = "7:8"
group = "left"
perm = "0600"
mtu = 9000
features = ["+mtu", "-mrg_rxbuf"]

[[net]]
name = "red"
socket = "/b.sock"
mode = "client"
`
	got, err := parse("v.toml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	want := &File{
		Control: Control{Socket: "/run/v.sock", Perm: 0o600, Owner: Owner{Group: "kvm"}},
		Log:     Log{Level: "debug", Format: "json"},
		Switch:  Switch{MACs: 16, Age: 5 * time.Second},
	}
	for _, s := range []struct{ origin, net string }{
		{"v.toml:15:3", "blue=/a.sock,mac=52:54:00:00:00:01,queues=4,owner=7:8,group=left,perm=0600,mtu=9000,features=+mtu,-mrg_rxbuf"},
		{"v.toml:26:3", "red=/b.sock,mode=client"},
	} {
		n, err := ParseNet(s.net)
		if err != nil {
			t.Fatal(err)
		}
		n.Origin = s.origin
		want.Nets = append(want.Nets, n)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestMistakesInTheFileAreToldWithLineAndColumn(t *testing.T) {
	const port = "[[net]]\nname = 'a'\nsocket = '/a'\n"
	for _, c := range []struct{ name, text, want string }{
		{"syntax", "[[net]\n", "v.toml:1:6: "},
		{"unknown key", port + "  colour = 'red'\n", `v.toml:4:3: there is no option "colour" here`},
		{"unknown table", port + "[tap]\nx = 1\n", `v.toml:4:2: there is no option "tap" here`},
		{"two unknown keys", port + "b = 1\nc = 2\n", "v.toml:5:1: there is no option \"c\" here"},
		{"value of the wrong type", port + "queues = 'two'\n", "v.toml:4:10: option queues: does not take a TOML string"},
		{"number out of its limits", port + "queues = 65\n", `v.toml:4:1: port "a": option queues: "65" is not a number from 1 to 64`},
		{"second port", port + "\n[[net]]\nname = 'b'\nsocket = '/b'\nperm = '0777'\n", `v.toml:8:1: port "b": option perm`},
		{"feature", port + "features = ['+mq', 'csum']\n", `v.toml:4:1: port "a": option features: "csum" has neither +`},
		{"no socket", "\n[[net]]\nname = 'a'\n", `v.toml:2:3: port "a": option socket: the path is empty`},
		{"no name", "[[net]]\nsocket = '/a'\n", "v.toml:1:3: the name is empty"},
		{"inline tables have no line", "net = [{name = 'a', socket = '/a', mtu = 1}]", `v.toml: port "a": option mtu`},
		{"control", "[control]\nperm = '0666'\n", "v.toml:2:1: option control.perm"},
		{"control owner", "[control]\nowner = ':'\n", "v.toml:2:1: option control.owner"},
		{"log level", "[log]\nlevel = 'loud'\n", `v.toml:2:1: option log.level: "loud" is none of`},
		{"log format", "[log]\nformat = 'xml'\n", "v.toml:2:1: option log.format"},
		{"addresses", "[switch]\nmacs = -1\n", "v.toml:2:1: option switch.macs"},
		{"age", "[switch]\nage = 'old'\n", "v.toml:2:1: option switch.age"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := parse("v.toml", []byte(c.text))
			if err == nil {
				t.Fatal("was taken")
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %q does not say %q", err, c.want)
			}
		})
	}
}

func TestExampleFileSaysTheDefaults(t *testing.T) {
	f, err := Load(filepath.Join("..", "..", "example.toml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := Check(f.Nets, f.Blks, f.Control.Socket); err != nil {
		t.Fatal(err)
	}
	// blue has nothing but a name and a socket; red spells out its values.
	blue, red := f.Nets[0], f.Nets[1]
	blue.Name, blue.Socket, blue.Origin, blue.MAC = red.Name, red.Socket, red.Origin, red.MAC
	blue.MTU, blue.Features = red.MTU, red.Features // the example says that these are no defaults
	if d := cmp.Diff(blue, red); d != "" {
		t.Error(d)
	}
}

func TestFileThatIsNotThereNamesTheOption(t *testing.T) {
	_, err := Load(filepath.Join(t.TempDir(), "none.toml"))
	if !os.IsNotExist(unwrapped(err)) || !strings.Contains(err.Error(), "--config") {
		t.Errorf("error %v", err)
	}
}

func unwrapped(err error) error {
	if u, ok := err.(interface{ Unwrap() error }); ok {
		return u.Unwrap()
	}
	return err
}

func FuzzFile(f *testing.F) {
	f.Add([]byte("[[net]]\nname = 'a'\nsocket = '/a'\nqueues = 65\n"))
	f.Add([]byte("net = [{name = 'a', socket = '/a', features = ['+mq']}]"))
	f.Add([]byte("[control]\nperm = '0666'\n\"net\".x = 1"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if _, err := parse("v.toml", text); err != nil && !strings.Contains(err.Error(), "v.toml") {
			t.Errorf("%q: error %q does not name the file", text, err)
		}
	})
}

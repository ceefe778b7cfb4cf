package attach

import (
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vhostd/vhostd/cmd/vhostd/internal/config"
)

var update = flag.Bool("update", false, "write testdata anew")

// ports parses and checks, as the daemon does.
func ports(t *testing.T, all ...string) []config.Net {
	t.Helper()
	var nets []config.Net
	for _, s := range all {
		n, err := config.ParseNet(s)
		if err != nil {
			t.Fatal(err)
		}
		nets = append(nets, n)
	}
	if err := config.Check(nets, nil, ""); err != nil {
		t.Fatal(err)
	}
	return nets
}

func TestTextIsTheOneThatWasReadByAPerson(t *testing.T) {
	for name, nets := range map[string][]config.Net{
		"server": ports(t, "blue=/run/vhostd/blue.sock,mac=52:54:00:00:00:01"),
		"client": ports(t, "blue=/run/vhostd/blue.sock,mac=52:54:00:00:00:01,mode=client"),
		"full": ports(t, "blue=/run/vhostd/blue.sock,mac=52:54:00:00:00:01,queues=4,mtu=9000,group=left",
			"red=/run/vhostd/red.sock,mac=52:54:00:00:00:02"),
	} {
		t.Run(name, func(t *testing.T) {
			var b strings.Builder
			if err := Write(&b, nets, nil); err != nil {
				t.Fatal(err)
			}
			golden := filepath.Join("testdata", name+".txt")
			if *update {
				if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), b.String()); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestDisksStandBehindThePorts(t *testing.T) {
	d, err := config.ParseBlk("root=/run/vhostd/root.sock,file=/srv/root.img,queues=2")
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := Write(&b, ports(t, "a=/x"), []config.Blk{d}); err != nil {
		t.Fatal(err)
	}
	_, disk, _ := strings.Cut(b.String(), "\n\n")
	golden := filepath.Join("testdata", "disk.txt")
	if *update {
		if err := os.WriteFile(golden, []byte(disk), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), disk); d != "" {
		t.Error(d)
	}
}

func TestPathsWithOddCharactersStayOneValue(t *testing.T) {
	n := ports(t, "a=/x")[0]
	n.Socket = `/tmp/it's <a>, "b" & $c`
	var b strings.Builder
	if err := Write(&b, []config.Net{n}, nil); err != nil {
		t.Fatal(err)
	}
	if want := `'socket,id=a,path=/tmp/it'\''s <a>,, "b" & $c,reconnect=1'`; !strings.Contains(b.String(), want) {
		t.Errorf("the shell's word %s is not in\n%s", want, b.String())
	}
	if got := source(t, libvirt(&n)); got != n.Socket {
		t.Errorf("libvirt would read the path %q, want %q", got, n.Socket)
	}
}

// source reads the socket's path as an XML parser does.
func source(t *testing.T, text string) string {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(text))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			t.Fatal("there is no path in the XML")
		}
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "source" {
			for _, a := range e.Attr {
				if a.Name.Local == "path" {
					return a.Value
				}
			}
		}
	}
}

package config

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
)

// File is what a configuration file says; what it leaves out is zero.
type File struct {
	Control Control
	Log     Log
	Switch  Switch
	Nets    []Net
	Blks    []Blk
}

// Control is where `vhostd show` finds the daemon.
type Control struct {
	Socket string
	Perm   os.FileMode
	Owner  Owner
}

// Log says what is written to standard error, and how.
type Log struct {
	Level  string // debug, info, warn or error
	Format string // text or json
}

// Switch bounds what each switch learns.
type Switch struct {
	MACs int           // addresses
	Age  time.Duration // after which an unused one is forgotten
}

// document is the file as TOML has it.
type document struct {
	Control struct {
		Socket string `toml:"socket"`
		Perm   string `toml:"perm"`
		Owner  string `toml:"owner"`
	} `toml:"control"`
	Log struct {
		Level  string `toml:"level"`
		Format string `toml:"format"`
	} `toml:"log"`
	Switch struct {
		MACs int    `toml:"macs"`
		Age  string `toml:"age"`
	} `toml:"switch"`
	Nets []table    `toml:"net"`
	Blks []blkTable `toml:"blk"`
}

// table is one [[net]]; a nil option was not given.
type table struct {
	Name     string    `toml:"name"`
	Socket   string    `toml:"socket"`
	Mode     *string   `toml:"mode"`
	MAC      *string   `toml:"mac"`
	Queues   *int64    `toml:"queues"`
	Owner    *string   `toml:"owner"`
	Group    *string   `toml:"group"`
	Perm     *string   `toml:"perm"`
	MTU      *int64    `toml:"mtu"`
	Features *[]string `toml:"features"`
}

// Load reads a configuration file. Unknown keys are errors; a mistake is told
// with its line and column.
func Load(path string) (*File, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("option --config: %w", err)
	}
	return parse(path, text)
}

func parse(path string, text []byte) (*File, error) {
	var d document
	if err := toml.NewDecoder(bytes.NewReader(text)).DisallowUnknownFields().Decode(&d); err != nil {
		return nil, located(path, err)
	}
	at := positionsOf(path, text)
	f := &File{}
	if err := f.settings(&d, at); err != nil {
		return nil, err
	}
	for i := range d.Nets {
		n, err := d.Nets[i].port(i, at)
		if err != nil {
			return nil, err
		}
		f.Nets = append(f.Nets, n)
	}
	for i := range d.Blks {
		b, err := d.Blks[i].disk(i, at)
		if err != nil {
			return nil, err
		}
		f.Blks = append(f.Blks, b)
	}
	return f, nil
}

// settings takes over what does not belong to a port.
func (f *File) settings(d *document, at positions) (err error) {
	fail := func(section, option string, err error) error {
		return &Error{Origin: at.find(section, 0, option), Option: section + "." + option, Err: err}
	}
	f.Control.Socket = d.Control.Socket
	if d.Control.Perm != "" {
		if f.Control.Perm, err = ParsePerm(d.Control.Perm); err != nil {
			return fail("control", "perm", err)
		}
	}
	if d.Control.Owner != "" {
		if f.Control.Owner, err = ParseOwner(d.Control.Owner); err != nil {
			return fail("control", "owner", err)
		}
	}
	f.Log = Log(d.Log)
	if d.Log.Level != "" {
		if _, err := ParseLevel(d.Log.Level); err != nil {
			return fail("log", "level", err)
		}
	}
	if d.Log.Format != "" && d.Log.Format != "text" && d.Log.Format != "json" {
		return fail("log", "format", fmt.Errorf("%q is neither text nor json", d.Log.Format))
	}
	if f.Switch.MACs = d.Switch.MACs; f.Switch.MACs < 0 {
		return fail("switch", "macs", errors.New("the number of addresses is negative"))
	}
	if d.Switch.Age != "" {
		if f.Switch.Age, err = time.ParseDuration(d.Switch.Age); err != nil || f.Switch.Age <= 0 {
			return fail("switch", "age", fmt.Errorf("%q is not a time like 300s or 5m", d.Switch.Age))
		}
	}
	return nil
}

// ParseLevel reads a log level.
func ParseLevel(s string) (level slog.Level, err error) {
	if err := level.UnmarshalText([]byte(s)); err != nil {
		return level, fmt.Errorf("%q is none of debug, info, warn and error", s)
	}
	return level, nil
}

// port makes table i a port, through the options that --net has.
func (t *table) port(i int, at positions) (Net, error) {
	n := Net{Name: t.Name, Socket: t.Socket, Origin: at.find("net", i, "")}
	for _, o := range []struct {
		name  string
		value *string
	}{
		{"mode", t.Mode}, {"mac", t.MAC}, {"queues", decimal(t.Queues)}, {"owner", t.Owner},
		{"group", t.Group}, {"perm", t.Perm}, {"mtu", decimal(t.MTU)}, {"features", joined(t.Features)},
	} {
		if o.value == nil {
			continue
		}
		if err := n.set(o.name, *o.value); err != nil {
			return Net{}, &Error{at.find("net", i, o.name), n.Name, o.name, err}
		}
	}
	return n, n.finish()
}

func decimal(v *int64) *string {
	if v == nil {
		return nil
	}
	return new(strconv.FormatInt(*v, 10))
}

func joined(v *[]string) *string {
	if v == nil {
		return nil
	}
	return new(strings.Join(*v, ","))
}

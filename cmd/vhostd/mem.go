package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/vhostd/vhostd/cmd/vhostd/internal/memview"
	"github.com/vhostd/vhostd/memfd"
)

// memCommand looks at the memory of any program that calls memfd.ServeInspect.
type memCommand struct {
	Attach string `required:"" placeholder:"SOCKET" help:"Where the program serves (memfd.ServeInspect)."`
	JSON   bool   `name:"json" help:"Exact numbers, for programs."`
	SVG    string `name:"svg" placeholder:"FILE" help:"Draw a map of the memory; - is the standard output, which then has nothing else."`
	Watch  bool   `help:"Look again every second, until the program ends."`
}

// pause is how long --watch waits.
const pause = time.Second

// Run looks once, or until ctx or the program ends.
func (m *memCommand) Run(ctx context.Context, o *output) error {
	for n := 0; ; n++ {
		i, err := memfd.Inspect(ctx, m.Attach)
		if n > 0 && (err != nil || ctx.Err() != nil) {
			return nil // it has ended, or we are to
		}
		if err != nil {
			return err
		}
		if err := m.show(o, i, n > 0); err != nil || !m.Watch {
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil
		}
	}
}

// show writes one answer, over the one before if there was one.
func (m *memCommand) show(o *output, i *memfd.Inspection, again bool) error {
	var b bytes.Buffer
	if m.SVG != "" {
		if err := memview.SVG(&b, i); err != nil {
			return err
		}
		if m.SVG != "-" {
			if err := replaceFile(m.SVG, b.Bytes()); err != nil {
				return err
			}
			b.Reset()
		}
	}
	switch {
	case m.SVG == "-":
	case m.JSON:
		e := json.NewEncoder(&b)
		e.SetIndent("", "  ")
		if err := e.Encode(i); err != nil {
			return err
		}
	default:
		if again {
			b.WriteString("\x1b[H\x1b[2J") // from the top of an empty screen
		}
		if err := memview.Tables(&b, i); err != nil {
			return err
		}
	}
	if _, err := o.out.Write(b.Bytes()); err != nil {
		return fmt.Errorf("standard output: %w", err)
	}
	return nil
}

// replaceFile writes a file that a viewer may be reading.
func replaceFile(path string, content []byte) error {
	next := path + ".new"
	if err := os.WriteFile(next, content, 0o644); err != nil {
		return err
	}
	return os.Rename(next, path)
}

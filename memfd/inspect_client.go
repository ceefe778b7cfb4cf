package memfd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// What an answer may cost who asks: it may come from anybody.
const (
	maxAnswer  = 64 << 20 // bytes
	maxObjects = 1 << 20  // what needs two bytes of JSON needs a hundred here
)

// Inspect asks the process that serves at path (ServeInspect) for its arenas. If
// ctx has no deadline, it waits for half a minute.
func Inspect(ctx context.Context, path string) (*Inspection, error) {
	c, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if err != nil {
		return nil, adviseOnSocket(path, err)
	}
	defer c.Close()
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(3 * answerTimeout)
	}
	if err := c.SetReadDeadline(deadline); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	i, err := readInspection(c)
	if cause := context.Cause(ctx); cause != nil && err != nil {
		err = cause
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return i, nil
}

// adviseOnSocket says what to do about a process that cannot be reached.
func adviseOnSocket(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ECONNREFUSED):
		return fmt.Errorf("nobody serves at %s: the program has to call memfd.ServeInspect with this path, and to run: %w", path, err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s: only the user that the program runs as may look: %w", path, err)
	}
	return fmt.Errorf("%s: %w", path, err)
}

// readInspection reads an answer to its end.
func readInspection(r io.Reader) (*Inspection, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxAnswer+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("the answer breaks off: %w", err)
	case len(text) > maxAnswer:
		return nil, fmt.Errorf("the answer has more than %s: does memfd.ServeInspect serve there?", bytesText(maxAnswer))
	}
	return decodeInspection(text)
}

// decodeInspection reads the JSON of an answer.
func decodeInspection(text []byte) (*Inspection, error) {
	if n := bytes.Count(text, []byte("{")); n > maxObjects {
		return nil, fmt.Errorf("the answer has %d parts, more than any inspection: does memfd.ServeInspect serve there?", n)
	}
	i := new(Inspection)
	if err := json.Unmarshal(text, i); err != nil {
		return nil, fmt.Errorf("the answer is no inspection: does memfd.ServeInspect serve there? %w", err)
	}
	if i.Version != InspectVersion {
		return nil, fmt.Errorf("the answer is of version %d, and %d is what can be read here: use the vhostd of the program's library",
			i.Version, InspectVersion)
	}
	return i, nil
}

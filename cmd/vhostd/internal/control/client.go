package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
)

// DefaultSocket is where daemon and clients meet when nobody says otherwise:
// in the user's own folder if the session has one, else in the system's.
func DefaultSocket() string {
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		return filepath.Join(dir, "vhostd.sock")
	}
	return "/run/vhostd.sock"
}

// answerMax bounds what a client reads: the socket may not be a daemon's.
const answerMax = 64 << 20

// Client asks the daemon at a socket.
type Client struct {
	socket string
	http   *http.Client
}

// NewClient makes a client; it connects when it asks.
func NewClient(socket string) *Client {
	return &Client{socket, &http.Client{
		Timeout: answerTimeout,
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "unix", socket)
			},
		},
	}}
}

// Get asks for what ("ports", "mem", …), of one port or with "" of all.
func Get[T any](ctx context.Context, c *Client, what, port string) (List[T], error) {
	return ask[T](ctx, c, http.MethodGet, what, port)
}

// Resize has the daemon look at the size of a disk again.
func Resize(ctx context.Context, c *Client, port string) (List[Disk], error) {
	return ask[Disk](ctx, c, http.MethodPost, "resize", port)
}

func ask[T any](ctx context.Context, c *Client, method, what, port string) (List[T], error) {
	var list List[T]
	u := url.URL{Scheme: "http", Host: "vhostd", Path: "/v1/" + what}
	if port != "" {
		u.RawQuery = url.Values{"port": {port}}.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), nil)
	if err != nil {
		return list, err
	}
	res, err := c.http.Do(req)
	if err != nil {
		return list, c.advise(err)
	}
	defer res.Body.Close()
	body := json.NewDecoder(io.LimitReader(res.Body, answerMax))
	if res.StatusCode != http.StatusOK {
		var r refusal
		if body.Decode(&r) != nil || r.Error == "" {
			return list, fmt.Errorf("%s: answers %s: does vhostd serve listen there?", c.socket, res.Status)
		}
		return list, errors.New(r.Error)
	}
	if err := body.Decode(&list); err != nil {
		return list, fmt.Errorf("%s: the answer is not vhostd's: %w", c.socket, err)
	}
	return list, nil
}

// advise says what to do about a daemon that cannot be reached.
func (c *Client) advise(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("no daemon listens at %s: start vhostd serve, or name its socket with --control", c.socket)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s: not allowed to connect: run as the daemon's user, "+
			"or start it with --control-perm 0660 and --control-owner :GROUP", c.socket)
	}
	return fmt.Errorf("%s: %w", c.socket, err)
}

package control

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// two is a source with two ports, one of which has a front-end.
type two struct{}

func (two) Names() []string { return []string{"blue", "red"} }

func pick[T any](port string, of map[string]T) (list []T) {
	for _, name := range []string{"blue", "red"} {
		if v, ok := of[name]; ok && (port == "" || port == name) {
			list = append(list, v)
		}
	}
	return list
}

func (two) Ports(port string) []Port {
	return pick(port, map[string]Port{
		"blue": {Name: "blue", State: Running, Features: Bits{1<<63 | 1, []string{"csum", "bit 63"}}},
		"red":  {Name: "red", State: Listening},
	})
}

func (two) Memory(port string) []Memory {
	return pick(port, map[string]Memory{"blue": {Port: "blue", Regions: []Region{{Guest: 1 << 60, Size: 1<<64 - 1}}}})
}

func (two) Queues(port string) []Queues {
	return pick(port, map[string]Queues{"blue": {Port: "blue", Rings: []Ring{{Index: 1, AvailIdx: 65535}}}})
}

func (two) MACs(string) []MAC { return nil }

func (two) Stats(port string) []Stats {
	return pick(port, map[string]Stats{"red": {Port: "red", Counts: Counts{InFrames: 1<<63 + 1}}})
}

func (two) Disks(string) []Disk { return nil }

func (two) Resize(port string) (Disk, error) {
	if port != "red" {
		return Disk{}, errors.New("no disk is named so")
	}
	return Disk{Port: port, Size: 1 << 40}, nil
}

func (two) Messages(port string) []Messages {
	return pick(port, map[string]Messages{"blue": {Port: "blue", Messages: []Message{{Request: "SET_OWNER"}}}})
}

// serve runs the server on a socket until the test ends.
func serve(t *testing.T) *Client {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "c.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, l, two{}, slog.New(slog.DiscardHandler)) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the server ended with %v", err)
		}
		if _, err := os.Stat(socket); !os.IsNotExist(err) {
			t.Errorf("the socket is still there: %v", err)
		}
	})
	return NewClient(socket)
}

func same[T any](t *testing.T, c *Client, what, port string, want []T) {
	t.Helper()
	got, err := Get[T](t.Context(), c, what, port)
	if err != nil {
		t.Fatalf("%s of %q: %v", what, port, err)
	}
	if d := cmp.Diff(want, got.Items, cmpopts.EquateEmpty()); d != "" {
		t.Errorf("%s of %q: %s", what, port, d)
	}
	if got.Time.IsZero() {
		t.Errorf("%s has no time", what)
	}
}

func TestClientGetsWhatTheSourceHasToTheLastBit(t *testing.T) {
	c := serve(t)
	for _, port := range []string{"", "blue", "red"} {
		same(t, c, "ports", port, two{}.Ports(port))
		same(t, c, "stats", port, two{}.Stats(port))
	}
	same(t, c, "mem", "", two{}.Memory(""))
	same(t, c, "queues", "", two{}.Queues(""))
	same(t, c, "messages", "", two{}.Messages(""))
}

func TestEmptyListIsAListInJSON(t *testing.T) {
	rec := httptest.NewRecorder()
	Handler(two{}).ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/v1/mac", nil))
	if body := rec.Body.String(); !strings.Contains(body, `"items": []`) {
		t.Errorf("the body is %s", body)
	}
}

func TestUnknownPortIsRefusedWithTheNamesThereAre(t *testing.T) {
	_, err := Get[Port](t.Context(), serve(t), "ports", "green")
	if err == nil || err.Error() != `no port is named "green"; there are blue, red` {
		t.Errorf("error %v", err)
	}
}

func TestServerOnlyReads(t *testing.T) {
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete} {
		rec := httptest.NewRecorder()
		Handler(two{}).ServeHTTP(rec, httptest.NewRequest(method, "/v1/ports", strings.NewReader("{}")))
		if rec.Code != http.StatusNotFound || !strings.Contains(rec.Body.String(), "GET /v1/ports") {
			t.Errorf("%s: %d %s", method, rec.Code, rec.Body)
		}
	}
}

func TestClientSaysWhatToDoWhenThereIsNoDaemon(t *testing.T) {
	dir := t.TempDir()
	stale := filepath.Join(dir, "stale.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	for _, socket := range []string{filepath.Join(dir, "none.sock"), stale} {
		_, err := Get[Port](t.Context(), NewClient(socket), "ports", "")
		if err == nil || !strings.Contains(err.Error(), "no daemon listens at "+socket) {
			t.Errorf("error %v", err)
		}
	}
}

func TestClientIsNotTakenInByAnotherServer(t *testing.T) {
	for _, c := range []struct{ answer, want string }{
		{"HTTP/1.0 200 OK\r\n\r\n<html>", "is not vhostd's"},
		{"HTTP/1.0 500 Oh no\r\n\r\n<html>", "answers 500 Oh no"},
	} {
		socket := filepath.Join(t.TempDir(), "x.sock")
		l, err := net.Listen("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			conn, err := l.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
			// The request must be read, or closing would reset the connection.
			if _, err := conn.Read(make([]byte, 4096)); err == nil {
				_, _ = io.WriteString(conn, c.answer)
			}
		}()
		_, err = Get[Port](t.Context(), NewClient(socket), "ports", "")
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v does not say %q", err, c.want)
		}
		l.Close()
		<-done
	}
}

func TestHexReadsOnlyWhatItWrites(t *testing.T) {
	var h Hex
	if err := h.UnmarshalText([]byte("0xffffffffffffffff")); err != nil || h != 1<<64-1 {
		t.Errorf("%v, %v", h, err)
	}
	for _, s := range []string{"", "0x", "12", "0xg", "0x1ffffffffffffffff", "0x-1"} {
		if err := h.UnmarshalText([]byte(s)); err == nil {
			t.Errorf("%q was taken", s)
		}
	}
}

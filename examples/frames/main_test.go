package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/vhostd/vhostd/memfd"
	"github.com/vhostd/vhostd/vhost"
	"github.com/vhostd/vhostd/virtio"
)

// mirror is a network device that sends every frame back.
type mirror struct{}

func (mirror) Spec() vhost.Spec {
	return vhost.Spec{ID: virtio.Net, Queues: 2, Shared: func(i int) bool { return i == 0 }}
}

func (mirror) Open(s *vhost.Session) (vhost.Handler, error) { return reflection{s}, nil }

type reflection struct{ s *vhost.Session }

func (reflection) Close() error { return nil }

func (r reflection) Serve(tx *virtio.Queue) error {
	rx := r.s.Queue(0)
	if rx.Begin(tx.Reader()) != virtio.Open {
		return nil
	}
	defer rx.End()
	for c := range tx.Chains() {
		frame, _ := io.ReadAll(c)
		frame[10] = 1 // num_buffers
		if back, ok := rx.Next(); ok {
			_, _ = back.Write(frame)
			back.Done(back.Wrote())
		}
	}
	rx.Arm()
	return nil
}

func TestTheExampleHearsItsOwnFrames(t *testing.T) {
	for _, page := range []uint64{4 << 10, 2 << 20} {
		t.Run(fmt.Sprint(page>>10, " KiB pages"), func(t *testing.T) { hears(t, page) })
	}
}

func hears(t *testing.T, page uint64) {
	path := t.TempDir() + "/s"
	l, err := vhost.Listen(path, vhost.ListenOptions{UID: -1, GID: -1})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var serving sync.WaitGroup
	serving.Go(func() { _ = (&vhost.Server{Device: mirror{}}).Serve(ctx, l) })
	defer serving.Wait()
	defer cancel()
	var out strings.Builder
	err = run(t.Context(), &out, memfd.Options{Pages: []uint64{page}}, path, 3, 3)
	if _, short := errors.AsType[*memfd.ShortageError](err); short && page > 4<<10 {
		t.Skip("huge pages are needed, 12 MiB of them: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`^([0-9a-f]{12}: "frame [123] of 3"\n){3}$`).MatchString(out.String()) {
		t.Errorf("it says\n%s", out.String())
	}
}

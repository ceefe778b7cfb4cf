package probe

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/vhost"
)

// FuzzAnswers has a back-end say whatever it likes: the probe ends, and what it
// prints is a report or an error.
func FuzzAnswers(f *testing.F) {
	answer := func(r vhost.Request, payload ...byte) []byte {
		b := binary.NativeEndian.AppendUint32(nil, uint32(r))
		b = binary.NativeEndian.AppendUint32(b, flagVersion|flagReply)
		b = binary.NativeEndian.AppendUint32(b, uint32(len(payload)))
		return append(b, payload...)
	}
	f.Add(answer(vhost.GetFeatures, u64(1<<30|1<<15)...))
	f.Add(append(answer(vhost.GetFeatures, u64(1<<30|1<<6|1<<2)...), answer(vhost.GetProtocolFeatures, u64(1<<9)...)...))
	f.Add(answer(vhost.GetFeatures, u64(1<<32)...))
	f.Fuzz(func(t *testing.T, said []byte) {
		open := func(context.Context) (*vhost.Conn, error) {
			ours, theirs, err := pair()
			if err != nil {
				return nil, err
			}
			// All is said at once, before it is asked for. Then it hangs up.
			go func() {
				_, _ = theirs.Write(said)
				_ = theirs.CloseWrite()
				_, _ = io.Copy(io.Discard, theirs)
				theirs.Close()
			}()
			return vhost.NewConn(ours, time.Second), nil
		}
		r, err := Run(t.Context(), open, unknown)
		if (r == nil) == (err == nil) {
			t.Fatalf("report %v, error %v", r, err)
		}
		if r != nil {
			if err := r.Print(io.Discard); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// pair makes two ends of a connection.
func pair() (a, b *net.UnixConn, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	var ends [2]*net.UnixConn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "end")
		c, fileErr := net.FileConn(f)
		f.Close()
		if fileErr != nil {
			return nil, nil, fileErr
		}
		ends[i] = c.(*net.UnixConn)
	}
	return ends[0], ends[1], nil
}

package vhost

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"time"
)

// livedLong is how long a connection must have lived for the next attempt to
// come soon.
const livedLong = time.Second

// DialAndServe connects to a front-end that listens at path, and again
// whenever the connection ends, until ctx does. Between attempts it waits 10 ms
// first and up to 1 s then.
func (s *Server) DialAndServe(ctx context.Context, path string) error {
	var d net.Dialer
	for pause := backoffMin; ctx.Err() == nil; pause = min(2*pause, backoffMax) {
		c, err := d.DialContext(ctx, "unix", path)
		switch {
		case err == nil:
			start := time.Now()
			_ = s.ServeConn(ctx, c.(*net.UnixConn)) // it was logged
			if time.Since(start) >= livedLong {
				pause = backoffMin
			}
		case ctx.Err() == nil:
			s.failed("no connection to the front-end", fmt.Errorf("%w: start QEMU with -chardev socket,path=%s,server=on", err, path))
		}
		// Half of it by chance: what ended together shall not come together.
		sleep(ctx, pause/2+rand.N(pause/2+1))
	}
	return ctx.Err()
}

// Entropy is a whole vhost-user device: the random numbers of QEMU's vhost-user-rng.
package main

import (
	"context"
	"crypto/rand"
	"io"
	"log"
	"os"

	"github.com/vhostd/vhostd/vhost"
	"github.com/vhostd/vhostd/virtio"
)

type entropy struct{}

func (entropy) Spec() vhost.Spec                           { return vhost.Spec{ID: virtio.Entropy, Queues: 1} }
func (entropy) Open(*vhost.Session) (vhost.Handler, error) { return entropy{}, nil }
func (entropy) Close() error                               { return nil }
func (entropy) Serve(q *virtio.Queue) error {
	for c := range q.Chains() {
		n, _ := io.CopyN(c, rand.Reader, 1024) // less where there is less room
		c.Done(int(n))
	}
	return nil
}

func main() {
	log.Fatal((&vhost.Server{Device: entropy{}}).ListenAndServe(context.Background(), os.Args[1]))
}

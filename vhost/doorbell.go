package vhost

// doorbell signals the peer over a call or error eventfd. It implements
// virtio.Doorbell.
type doorbell struct{}

// newDoorbell makes a doorbell without a file; a ring is kept until one comes.
func newDoorbell() *doorbell { panic("stub") }

// Ring signals the peer soon. It never blocks.
func (d *doorbell) Ring() { panic("stub") }

// Set changes the file to fd, which is the doorbell's from now on, error or not; -1: none.
// When it returns the old file is closed and nothing writes to it any more.
func (d *doorbell) Set(fd int) error { panic("stub") }

// Close is Set(-1) for good.
func (d *doorbell) Close() error { panic("stub") }

// Counts tells how often Ring was called and how many signals were written.
func (d *doorbell) Counts() (rings, writes uint64) { panic("stub") }

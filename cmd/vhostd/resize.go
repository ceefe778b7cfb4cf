package main

import (
	"cmp"
	"context"

	"github.com/vhostd/vhostd/cmd/vhostd/internal/control"
	"github.com/vhostd/vhostd/cmd/vhostd/internal/view"
)

// resizeCommand has the daemon look at a disk whose file has another size now.
type resizeCommand struct {
	Disk    string `arg:"" help:"Which one."`
	Control string `placeholder:"SOCKET" help:"The daemon's control socket. Default: vhostd.sock in $XDG_RUNTIME_DIR or /run."`
}

// Run tells the guest, and prints the disk as it is now.
func (r *resizeCommand) Run(ctx context.Context, o *output) error {
	list, err := control.Resize(ctx, control.NewClient(cmp.Or(r.Control, control.DefaultSocket())), r.Disk)
	if err != nil {
		return err
	}
	return view.Disks(o.out, list)
}

// Command vhostd is a switch for virtual machines: its ports are vhost-user
// sockets that QEMU and DPDK attach to. It serves disks the same way.
//
//	vhostd serve --net blue=/run/blue.sock --net red=/run/red.sock
//	vhostd serve --blk root=/run/root.sock,file=/srv/root.img
//	vhostd show ports
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
)

// cli is the command line.
type cli struct {
	Serve    serveCommand    `cmd:"" help:"Run the switch and the disks."`
	Show     showCommand     `cmd:"" help:"Look at a running one."`
	Resize   resizeCommand   `cmd:"" help:"Tell a guest that the file behind its disk has another size."`
	Mem      memCommand      `cmd:"" help:"Look at the memory of a program that has an arena."`
	Probe    probeCommand    `cmd:"" help:"Ask any vhost-user back-end what it can do, and what about it is unusual."`
	Pktgen   pktgenCommand   `cmd:"" help:"Send, receive or reflect frames through any vhost-user network back-end."`
	Blkbench blkbenchCommand `cmd:"" help:"Read and write a disk through any vhost-user block back-end."`
	Version  versionCommand  `cmd:"" help:"Say which vhostd this is."`
}

// Exit codes.
const (
	exitFailed = 1
	exitUsage  = 2
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run is main without the process around it.
func run(args []string, stdout, stderr io.Writer) int {
	// The first signal ends what runs in good order. The second finds the
	// default handling again, and ends the process.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	context.AfterFunc(ctx, stop)
	defer stop()

	var c cli
	exit := -1
	parser, err := kong.New(&c,
		kong.Name("vhostd"),
		kong.Description("A switch for virtual machines: ports are vhost-user sockets that QEMU and DPDK attach to."),
		kong.Writers(stdout, stderr),
		kong.Exit(func(code int) { exit = code }),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(&output{stdout, stderr}),
	)
	if err != nil {
		panic(err) // the command line's definition is wrong
	}
	k, err := parser.Parse(args)
	switch {
	case exit >= 0: // --help was given and is printed
		return exit
	case err != nil:
		fmt.Fprintf(stderr, "vhostd: %v; vhostd --help tells more\n", err)
		return exitUsage
	}
	if err := k.Run(); err != nil {
		fmt.Fprintf(stderr, "vhostd: %v\n", err)
		return exitFailed
	}
	return 0
}

// output is where commands write: answers, and what is said about them.
type output struct{ out, err io.Writer }

package vhost

import "net"

// ListenOptions say who may connect.
type ListenOptions struct {
	Mode uint32 // 0: 0660
	UID  int    // -1: leave
	GID  int    // -1: leave
}

// Listen makes the socket: a stale file is replaced, a live one is an error that says so.
func Listen(path string, o ListenOptions) (*net.UnixListener, error) { panic("stub") }

// Package vhost is how two processes agree to share a virtio device: the
// vhost-user protocol over a Unix socket.
//
// Who writes a device implements [Device] and [Handler]; a [Server] listens or
// dials and does the rest: features, memory, rings, the dirty log, and the end
// of a connection. A [Runner] decides on which goroutines rings are served.
//
// A [Frontend] is the other end: it dials a back-end ([Dial]) or is dialled by
// one ([Accept]), shares the memory of a source with it, no more, and is the
// transport under the drivers of package virtio. It outlives its connections.
// [Conn] is what it is made of, message by message.
//
// # What belongs here
//
// Messages, their framing and their files; the state they put a session and
// its rings into; the eventfds that rings signal with; the workers' life.
//
// # What does not
//
// What a ring's memory means is package virtio's, where an address lies is
// memtable's, and what the chains say is the device's (virtio/vnet and its
// siblings).
//
// # What holds everywhere
//
// A message is answered after the fact: when it takes something away, the
// answer comes once no worker can touch it. A peer that sends nonsense, half a
// message, a file of the wrong kind or an eventfd that blocks loses its own
// connection or its own ring. Files that came and were not asked for are
// closed. Nothing here waits for a peer without a limit, except for the first
// byte of its next message.
package vhost

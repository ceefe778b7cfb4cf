// Package vnet is the network device (virtio 1.2, 5.1): its feature bits, its
// configuration space, the header before every frame with the checks that make
// a sender's header safe to hand on, and the network [Driver].
//
// The driver needs a virtio.Transport to reach its device, memory for its rings
// and buffers for its frames, and knows nothing of where these come from:
// package vhost has a transport, package memfd has memory. Nothing here knows of
// switching, or of what is in a frame beyond its addresses.
//
// # Frames and buffers
//
// A frame that is sent or received lies in a buffer behind [Headroom] bytes,
// which are its header's. Nothing is copied between the pool that buffers come
// from and the ring: who is given a buffer owns it, and gives it back once.
//
//	send:    Buffers.Get → Load → Tx.Send → (the device) → Buffers.Put
//	receive: Buffers.Get → (the device) → Rx.Receive → Rx.Release, or Tx.SendFrames
//
// # Workers
//
// A [Tx] and an [Rx] belong to one worker each, who polls them or parks in Wait.
// The device's life is the driver's own business: while it is lost, workers send
// and receive nothing, and go on by themselves when it is back.
package vnet

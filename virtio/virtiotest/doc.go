// Package virtiotest is the driver's side of a split virtqueue, for the tests
// of devices and of package virtio itself.
//
// It was written from the specification, not from package virtio: what both
// say about a ring they say independently. A test of a device is a few lines:
//
//	rig := virtiotest.New(t, virtiotest.Options{})
//	rig.Send([]byte("a frame"))        // a chain for the device to read
//	rig.Post(2048)                     // a chain for the device to write
//	rig.Stay(device.Serve)             // the worker's turn
//	rig.Recv()                         // what the device wrote
//
// What belongs here is what a test needs around a ring: guest memory ([Memory]),
// a driver that trusts its device with nothing ([Driver]), a doorbell that
// counts ([Bell]), and a driver that nobody should trust ([Raw], [Tricks]).
// What a device type puts into its buffers does not.
//
// # What is checked without being asked
//
// Memory keeps a second copy of all that the driver wrote. Whatever differs
// from it, and is neither a used ring nor a buffer lent for writing, was
// written by the device where it must not write: [Memory.Verify] says where,
// and a rig asks when its test ends. [Driver.Reap] refuses a used element that
// names no head, or one that is not lent, or a length beyond the buffers'.
//
// # Heap or file
//
// Guest memory is on the Go heap, where the race detector sees both sides, or
// in a memfd that both sides map, as between processes. The race detector is
// blind to the second.
package virtiotest

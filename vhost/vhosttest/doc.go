// Package vhosttest is a guest without a virtual machine, for tests and
// benchmarks of vhost-user back-ends: it connects like QEMU, shares a memfd,
// sets up the rings of a network device and moves frames through them.
//
// It is lean where package virtiotest is thorough: sending and receiving
// allocate nothing, so that what is left to count is the back-end's. It checks
// what comes back no further than a driver must.
package vhosttest

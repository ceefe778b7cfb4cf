// Guest is the only program of the test guests: their init and their agent.
//
// As process 1 it mounts what the kernel offers, loads the modules named on the
// command line (modules=a.ko,b.ko, in that order, from /modules), opens the
// virtio-serial port and answers requests until it is told to reboot.
//
// What belongs here: everything a guest does in a test. There is no shell and
// no other program in the guest, so what a test wants done becomes an operation
// (package guestapi). A failing operation is an answer; what must not happen
// ends the process, which the kernel reports on the console.
package main

// Package attach writes what a person needs to plug a guest into a port: QEMU's
// arguments and libvirt's XML. Both need memory that can be shared, the most
// frequent thing to be forgotten; so it is part of the text.
//
// What does not belong here: starting guests.
package attach

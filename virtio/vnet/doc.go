// Package vnet is the network device's words (virtio 1.2, 5.1): its feature
// bits and the header before every frame, with the checks that make a sender's
// header safe to hand on and the rules what a receiver can take.
//
// It knows nothing of switching, and touches no ring.
package vnet

// Package view lays out the daemon's answers for people: what `vhostd show`
// prints. Ages count from the daemon's time in the answer, so that the same
// answer is always printed the same.
//
// What does not belong here: getting the answers (control), and columns, sizes
// and ages as such (text).
package view

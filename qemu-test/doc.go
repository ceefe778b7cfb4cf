// Package qemutest boots real guests against the real vhostd binary.
//
// A [Lab] is one run: a folder with sockets and logs, a [Daemon], up to two
// [Machine]s. A machine is a QEMU process whose guest runs our own init (package
// guest) and answers requests over a virtio-serial port ([Ask]). Nothing is
// installed: the kernel, and a newer QEMU where the installed one is old, are
// packages that are downloaded and unpacked into a cache folder
// ($VHOSTD_CACHE, or build/cache in the repository).
//
// What belongs here: fetching, booting, asking, and the scenarios
// (scenario_*_test.go) that need a guest kernel's own virtio drivers. What does
// not: what a front-end written in Go can show (package vhost's tests), what a
// peer without a virtual machine can (package peers), and what a guest does
// (package guest).
//
// The daemon is driven as an operator drives it: command line, signals and
// "vhostd show --json". Nothing of its code is imported.
package qemutest

// Package conformance proves, rule by rule, that the back-end keeps the
// vhost-user protocol as it is written and as QEMU speaks it.
//
// It holds tests only. Each proves one rule and is named for it; its comment
// begins with the rule's number and source, and docs/conformance.md is the
// table made of those comments. A star marks the rules that back-ends commonly
// break. The tests see no more of the server than a front-end does: a socket,
// memory from memfds, eventfds, and one message at a time.
//
// # What belongs here
//
// Rules that a front-end or a driver can observe. What a rule takes to prove
// (a front-end that misbehaves, a ring laid out by hand, a device that notes
// what it is told) is in rig_test.go, guest_test.go and device_test.go.
//
// # What does not
//
// Tests of how the server does it: they are beside the code. Rules about what
// a switch port does with frames are proved in cmd/vhostd/internal/fabric, in
// the same form; the table names them too.
package conformance

// Package daemon runs what a configuration describes: a switch per group, a
// vhost-user server per port and disk, the control socket; and it tells the control
// socket about them.
//
// What does not belong here: forwarding (fabric), the protocol (vhost), and the
// words people read (attach, text).
package daemon

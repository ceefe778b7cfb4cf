// Package control is how a running daemon is looked at: JSON over HTTP on a
// unix socket, the types both sides use, the server and the client.
//
//	curl --unix-socket /run/vhostd.sock http://vhostd/v1/ports
//
// Everything is read-only. Sizes are exact bytes, times RFC 3339, and addresses
// and feature bits hexadecimal strings, because JSON's numbers end at 2^53 for
// many readers. Every answer has the daemon's own time, from which ages follow.
//
// What does not belong here: how the daemon gets at the data (see [Source]), and
// how it is laid out for people.
package control

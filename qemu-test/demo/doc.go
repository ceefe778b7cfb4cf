// Demo shows vhostd at work: it starts the daemon with two ports, boots a guest
// at each, has them ping and stream to each other, and prints what both sides
// counted. It ends with exit code 0 if every byte arrived as it was sent.
//
// What belongs here: one run, and how it is told. What does not: booting and
// asking (package qemutest) and anything a test should find.
package main

// Package histogram counts durations as a tool does that measures millions of
// them: in constant memory, without allocating, and no more wrong than 1/32 of
// each value. It draws them for a terminal.
//
// What does not belong here: clocks, and what is measured.
package histogram

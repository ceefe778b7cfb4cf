// Package text lays out what people read in a terminal: tables with columns
// that line up, sizes, counts and ages in units that fit.
//
// What does not belong here: what the numbers mean. It knows no ports.
package text

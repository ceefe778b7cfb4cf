//go:build race

package vblk_test

// raceEnabled: everything takes ten times as long.
const raceEnabled = true

//go:build !race

package vblk_test

const raceEnabled = false

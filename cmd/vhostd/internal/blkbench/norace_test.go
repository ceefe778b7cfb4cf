//go:build !race

package blkbench

const raceEnabled = false

//go:build race

package pktgen

const raceEnabled = true

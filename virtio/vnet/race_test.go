//go:build race

package vnet_test

// raceEnabled: everything takes ten times as long.
const raceEnabled = true

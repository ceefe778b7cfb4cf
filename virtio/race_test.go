//go:build race

package virtio_test

// raceEnabled: everything takes ten times as long.
const raceEnabled = true

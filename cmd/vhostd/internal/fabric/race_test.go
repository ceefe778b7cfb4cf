//go:build race

package fabric

// The race detector allocates where the program does not.
func init() { racing = true }

package memfd

// users are who takes memory from an arena: heaps, zones and pools.
type users struct{}

// close ends all of them. What they hold has been given back, or is an error.
func (u *users) close() error { return nil }

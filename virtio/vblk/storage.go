package vblk

// Storage is what a [Device] keeps its sectors in. Offsets and lengths are in
// bytes; the device asks for nothing outside of the size it was told last.
// Methods are called from many goroutines, and may block.
type Storage interface {
	// Size asks how large the storage is now.
	Size() (int64, error)
	// ReadVec fills all of p from off on, WriteVec writes all of it. The pieces
	// are memory of a peer, which may be gone: hand them to the kernel, whose
	// EFAULT is an error like any other, and do not look into them. p itself is
	// scratch and may be changed. With durable the data has reached the disk
	// when WriteVec returns.
	ReadVec(p [][]byte, off int64) error
	WriteVec(p [][]byte, off int64, durable bool) error
	// Sync makes durable what was written and had returned before.
	Sync() error
	// Discard says that n bytes at off are not needed any more.
	Discard(off, n int64) error
	// Zero makes n bytes at off read as zero; with unmap their room may be given
	// up.
	Zero(off, n int64, unmap bool) error
}

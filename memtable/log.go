package memtable

// Log is the dirty bitmap of a migration: one bit for each 4096-byte page of
// guest physical memory, in memory that the front-end reads and clears while
// we set (vhost-user, SET_LOG_BASE).
type Log struct {
	mem   *Mapping
	words []uint32
	pages uint64 // that the log has bits for
}

// logPage is log2 of the page size of the log, whatever the pages of the guest.
const logPage = 12

// Mapping gives the memory of the log, for whoever closes it.
func (l *Log) Mapping() *Mapping { return l.mem }

// Mark says that the n bytes at gpa were written: it sets the bit of every page
// they touch. Pages past the end of the log cannot be marked: then Mark
// marks those before it and answers false, and the migration must fail.
//
// Mark comes after the write it is about.
func (l *Log) Mark(gpa GPA, n uint64) (ok bool) {
	if n == 0 {
		return true
	}
	final := uint64(gpa) + (n - 1)
	if ok = final >= uint64(gpa); !ok {
		final = 1<<64 - 1 // wraps: as far as there are addresses
	}
	first, final := uint64(gpa)>>logPage, final>>logPage
	if final >= l.pages {
		ok, final = false, l.pages-1 // may be less than first: then there is no bit to set
	}
	for word := first / 32; word <= final/32; word++ {
		bits := ^uint32(0)
		if word == first/32 {
			bits &= ^uint32(0) << (first % 32)
		}
		if word == final/32 {
			bits &= ^uint32(0) >> (31 - final%32)
		}
		l.or(word, bits)
	}
	return ok
}

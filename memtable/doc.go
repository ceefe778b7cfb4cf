// Package memtable answers one question: where is it? A peer names memory by
// an address of its own; memtable turns that address into a pointer into memory
// mapped here, or says that there is nothing.
//
// # What belongs here
//
//   - the address types ([GPA], [IOVA], [PA], [UVA]), which never mix, and [VA],
//     the one pointer type, which is made nowhere else;
//   - [Mapping], which owns one mmap and says who is blamed when it faults;
//   - [Table], an immutable snapshot of regions with an index for look-ups;
//   - [Domain], [Reader] and [Cell]: when may what a swap took away be unmapped;
//   - faults: memory of a peer that vanishes is an error ([Guard], [AsFault]);
//   - [Log], the dirty bitmap of a migration;
//   - the interfaces between those who have memory and those who must hear of
//     it ([Source], [Mirror], [Resolver]), so that neither imports the other.
//
// # What does not
//
// Nothing here knows a message, a ring, a device or an allocator. Nothing here
// keeps a file descriptor: they are borrowed for the length of one call.
//
// # How a table is swapped
//
// Control makes the new table, publishes it with [Cell.Swap], calls
// [Domain.Wait], and only then closes the mappings that the new table lacks.
// A worker looks up only between [Reader.Enter] and [Reader.Leave] and carries
// no VA over [Reader.Pass].
//
// All addresses and sizes are hostile. A range is tested as
// n <= size && off <= size-n, which cannot wrap.
package memtable

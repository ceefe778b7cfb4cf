// Package memview shows what a process tells of its arenas: as tables, and drawn
// as a map on which every extent has its place. The answer comes from another
// process, so its numbers may be anything: they can make a picture silly, and
// neither large nor late.
//
// What does not belong here: getting the answer (memfd.Inspect).
package memview

// Package memtable (surface stub: its owner replaces this file by the real ones).
package memtable

import (
	"context"
	"unsafe"
)

type (
	GPA  uint64 // guest physical address
	IOVA uint64 // what a descriptor carries when it is not a GPA
	PA   uint64 // host physical address
	UVA  uint64 // the peer's own virtual address; never ours to dereference
)

type Address interface{ GPA | IOVA | PA | UVA }

// VA is a pointer into memory of ours. It is made only in this package.
type VA struct{ p unsafe.Pointer }

func (v VA) Add(n uint64) VA         { return VA{unsafe.Add(v.p, n)} }
func (v VA) Bytes(n uint64) []byte   { return unsafe.Slice((*byte)(v.p), n) }
func (v VA) Pointer() unsafe.Pointer { return v.p }
func (v VA) IsNil() bool             { return v.p == nil }
func (v VA) String() string          { panic("stub") } // 0x… for `show`

type FileID struct{ Dev, Ino uint64 } // zero: no file

type MapOptions struct {
	Owner    any  // blamed for faults in this mapping
	ReadOnly bool // PROT_READ only
	AnyFile  bool // skip the tmpfs/hugetlbfs test (tests, external memory)
}

type Mapping struct{ mem []byte }

func MapFile(fd int, off int64, size uint64, o MapOptions) (*Mapping, error) { panic("stub") }
func Wrap(mem []byte, id FileID, off int64, owner any) *Mapping              { panic("stub") }
func (m *Mapping) VA() VA                                                    { panic("stub") }
func (m *Mapping) Bytes() []byte                                             { panic("stub") }
func (m *Mapping) Size() uint64                                              { panic("stub") }
func (m *Mapping) File() FileID                                              { panic("stub") }
func (m *Mapping) Offset() int64                                             { panic("stub") }
func (m *Mapping) PageSize() uint64                                          { panic("stub") }
func (m *Mapping) Seals() (seals int, ok bool)                               { panic("stub") }
func (m *Mapping) Resident() (uint64, error)                                 { panic("stub") } // bytes, by mincore
func (m *Mapping) Owner() any                                                { panic("stub") }
func (m *Mapping) Close() error                                              { panic("stub") }

type Region[A Address] struct {
	Addr A
	Size uint64
	Mem  *Mapping
	Skip uint64 // where in Mem the region begins
}

type Options struct{ IndexBytes int } // bound on index memory; 0: 1 MiB
type IndexInfo struct {
	Kind  string // "flat", "two-level", "search"
	Frame uint64
	Bytes uint64
}
type Table[A Address] struct{ regions []Region[A] }

func New[A Address](regions []Region[A], o Options) (*Table[A], error)   { panic("stub") }
func (t *Table[A]) Regions() []Region[A]                                 { panic("stub") }
func (t *Table[A]) Index() IndexInfo                                     { panic("stub") }
func (t *Table[A]) At(a A, n uint64) (VA, bool)                          { panic("stub") }
func (t *Table[A]) Span(a A, n uint64) (VA, uint64, error)               { panic("stub") }
func (t *Table[A]) Append(dst [][]byte, a A, n uint64) ([][]byte, error) { panic("stub") }
func (t *Table[A]) With(add, remove []Region[A]) (*Table[A], error)      { panic("stub") }
func (t *Table[A]) Reverse(v VA) (a A, n uint64, ok bool)                { panic("stub") } // n: bytes to the end of the region
func (t *Table[A]) Window(a A) Window[A]                                 { panic("stub") }

type Window[A Address] struct{ base, size uint64 }

func (w *Window[A]) At(t *Table[A], a A, n uint64) (VA, bool) { panic("stub") }

type RangeError struct {
	Kind   string // "GPA", …
	Addr   uint64
	Size   uint64
	Reason string
}

func (e *RangeError) Error() string { return "" }

type Domain struct{ _ int }

func (d *Domain) Join(name string) *Reader       { panic("stub") }
func (d *Domain) Wait(ctx context.Context) error { panic("stub") }

type LateError struct{ Readers []string }

func (e *LateError) Error() string { return "" }

type Reader struct{ _ int }

func (r *Reader) Enter() { panic("stub") }
func (r *Reader) Pass()  { panic("stub") }
func (r *Reader) Leave() { panic("stub") }
func (r *Reader) Close() { panic("stub") }

type Cell[T any] struct{ p *T }

func (c *Cell[T]) Load(*Reader) *T { panic("stub") }
func (c *Cell[T]) Current() *T     { panic("stub") }
func (c *Cell[T]) Swap(v *T) *T    { panic("stub") }

type FaultError struct {
	Addr  uintptr
	Owner any
}

func (e *FaultError) Error() string { return "" }

func Faults() (old bool)                        { panic("stub") }
func AsFault(recovered any) (*FaultError, bool) { panic("stub") }
func Guard(f func() error) (err error)          { panic("stub") }

type Log struct{ mem []byte }

func NewLog(m *Mapping) (*Log, error)      { panic("stub") }
func (l *Log) Mark(gpa GPA, n uint64) bool { panic("stub") } // atomic OR; false: past the end
func (l *Log) Mapping() *Mapping           { panic("stub") }

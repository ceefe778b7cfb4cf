package memtable

import (
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"
)

// NewLog makes a log of m, which must begin at a multiple of 4 and have 4 bytes
// or more. The log neither owns nor closes m.
//
// Bits are set in aligned words of 4 bytes. If the size is no multiple of 4,
// the last word is used as far as the size goes where the bytes behind it are
// on the same mapped page; in wrapped memory they may be anybody's, and the
// log ends before them.
func NewLog(m *Mapping) (*Log, error) {
	p := m.VA().p
	switch {
	case m.Size() < 4:
		return nil, fmt.Errorf("dirty log of %d bytes: it needs 4 or more", m.Size())
	case uintptr(p)%4 != 0:
		return nil, errors.New("dirty log: its offset in the file is no multiple of 4")
	}
	words := (m.Size() + 3) / 4
	if words*4 > m.tail() {
		words--
	}
	return &Log{
		mem:   m,
		words: unsafe.Slice((*uint32)(p), words),
		pages: min(m.Size()*8, words*32),
	}, nil
}

// or sets bits. Byte page/8, bit page%8, is bit page%32 of a little-endian word,
// which is what amd64 and arm64 have.
//
// It does not look first whether they are set: the front-end clears a bit
// before it copies the page, and only an atomic write, which is ordered after
// the write to the page, makes sure that it copies what was written.
func (l *Log) or(word uint64, bits uint32) { atomic.OrUint32(&l.words[word], bits) }

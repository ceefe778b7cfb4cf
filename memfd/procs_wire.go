package memfd

import (
	"encoding/binary"
	"fmt"
)

// The format of messages between processes. All numbers are little endian.
// Version and verb come first and will always: whoever finds another version
// can say so.
const (
	wireVersion = 2
	wireHead    = 8
	wireMagic   = 0x6d656d6664 // "memfd"
)

// verb is what a message says.
type verb uint16

const (
	sayHello    verb = iota + 1 // secondary: magic, name, whether it wants all external memory
	sayWindows                  // primary: what address space to reserve; is acknowledged
	sayArrive                   // primary: runs of extents, their spaces and files; is acknowledged
	sayLeave                    // primary: runs of extents, and their spaces; is acknowledged
	sayAttached                 // primary: all there was has arrived
	sayRefused                  // primary: failure, and the end
	sayAck                      // secondary: failure, or none
	sayAlloc                    // secondary: size, alignment; is answered
	sayFree                     // secondary: address, token; is answered
	sayZone                     // secondary: name, options; is answered
	sayFind                     // secondary: name; is answered
	sayBring                    // secondary: name of external memory that it wants; is answered
	sayTake                     // secondary: name of external memory that it does not; is answered
	sayResult                   // primary: failure, or what was lent
	sayDetach                   // secondary: it holds nothing any more
)

// wireError says that the other side sent what it must not.
type wireError struct{ what string }

func (e *wireError) Error() string { return "the other process sent " + e.what }

// encoder writes a message.
type encoder struct{ b []byte }

func (e *encoder) u16(v uint16) { e.b = binary.LittleEndian.AppendUint16(e.b, v) }
func (e *encoder) u32(v uint32) { e.b = binary.LittleEndian.AppendUint32(e.b, v) }
func (e *encoder) u64(v uint64) { e.b = binary.LittleEndian.AppendUint64(e.b, v) }

func (e *encoder) flag(v bool) {
	if v {
		e.u16(1)
	} else {
		e.u16(0)
	}
}

// text writes at most what a reader takes.
func (e *encoder) text(s string) {
	s = s[:min(len(s), maxText)]
	e.u16(uint16(len(s)))
	e.b = append(e.b, s...)
}

func (e *encoder) head(v verb, seq uint32) {
	e.u16(wireVersion)
	e.u16(uint16(v))
	e.u32(seq)
}

// decoder reads a message. After the first thing that is not there it gives
// zeros, and end tells.
type decoder struct {
	b   []byte
	bad bool
}

// take gives the next n bytes.
func (d *decoder) take(n int) []byte {
	if d.bad || n > len(d.b) {
		d.bad = true
		return nil
	}
	b := d.b[:n]
	d.b = d.b[n:]
	return b
}

func (d *decoder) u16() uint16 {
	if b := d.take(2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

func (d *decoder) u32() uint32 {
	if b := d.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (d *decoder) u64() uint64 {
	if b := d.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (d *decoder) flag() bool {
	v := d.u16()
	d.bad = d.bad || v > 1
	return v == 1
}

func (d *decoder) text() string {
	n := int(d.u16())
	if n > maxText {
		d.bad = true
		return ""
	}
	return string(d.take(n))
}

// count reads how many entries of a size follow.
func (d *decoder) count(most, size int) int {
	n := int(d.u16())
	if n > most || n*size > len(d.b) {
		d.bad = true
		return 0
	}
	return n
}

// end tells whether all was there, and nothing more.
func (d *decoder) end() error {
	if d.bad || len(d.b) > 0 {
		return &wireError{"a message of the wrong length"}
	}
	return nil
}

// parse reads the header of a message.
func (m *message) parse(b []byte) error {
	d := decoder{b: b}
	version := d.u16()
	m.verb, m.seq = verb(d.u16()), d.u32()
	if d.bad {
		return &wireError{"a message without a header"}
	}
	if version != wireVersion {
		return &wireError{fmt.Sprintf("messages of version %d, where this one speaks version %d: "+
			"build both programs with the same version of memfd", version, wireVersion)}
	}
	m.body = d
	return nil
}

// Package virtio (surface stub: its owner replaces this file by the real ones).
package virtio

import "github.com/vhostd/vhostd/memtable"

type Features uint64
type DeviceID uint32

const (
	Net     DeviceID = 1
	Block   DeviceID = 2
	Entropy DeviceID = 4
	Vsock   DeviceID = 19
	FS      DeviceID = 26
)

// Bit numbers are feature.go's business: virtio.FeatureVersion1 etc. are masks.
const (
	FeatureNotifyOnEmpty  Features = 1 << 24
	FeatureLogAll         Features = 1 << 26 // vhost, not virtio
	FeatureAnyLayout      Features = 1 << 27
	FeatureIndirect       Features = 1 << 28
	FeatureEventIdx       Features = 1 << 29
	FeatureProtocol       Features = 1 << 30 // vhost-user, not virtio
	FeatureVersion1       Features = 1 << 32
	FeatureAccessPlatform Features = 1 << 33
	FeaturePacked         Features = 1 << 34
	FeatureInOrder        Features = 1 << 35
	FeatureRingReset      Features = 1 << 40
)

func (f Features) Has(g Features) bool { return f&g == g }

// Names gives the specification's names of the bits, as device id has them.
func (f Features) Names(id DeviceID) []string { panic("stub") }

// ParseFeature is the inverse for one name ("mrg_rxbuf"), for features=+x,-y.
func ParseFeature(id DeviceID, name string) (Features, error) { panic("stub") }

// Ring is the memory of a split ring: slices of checked length.
type Ring struct {
	Size              uint16
	Desc, Avail, Used []byte
}

func SplitSizes(n uint16) (desc, avail, used uint64) { panic("stub") } // with the event fields
func (r Ring) Check() error                          { panic("stub") } // sizes, alignment 16/2/4, power of two

type Doorbell interface{ Ring() } // never blocks

type Position uint32 // what GET_VRING_BASE carries

// View is all that control changes about a queue. It is immutable once configured.
type View struct {
	Ring     Ring
	Features Features
	Mem      *memtable.Table[memtable.GPA]
	Log      *memtable.Log // nil: LOG_ALL is off
	LogUsed  bool          // VHOST_VRING_F_LOG
	UsedLog  memtable.GPA  // log_guest_addr
	Call     Doorbell      // nil: never signal
	Enabled  bool
}

type Dir uint8

const (
	Readable Dir = iota + 1 // driver → device
	Writable                // device → driver
	Both
)

type Admission uint8

const (
	Stopped Admission = iota // no view, or broken
	Busy                     // shared queue: another worker is in
	Open
)

type QueueOptions struct {
	Index  int
	Shared bool // filled by several workers: Begin takes a gate
}

type Queue struct{ _ int }

func NewQueue(o QueueOptions) *Queue                   { panic("stub") }
func (q *Queue) Index() int                            { panic("stub") }
func (q *Queue) Configure(v *View) (old *View)         { panic("stub") } // control; nil stops; then Domain.Wait, then act
func (q *Queue) Current() *View                        { panic("stub") } // control
func (q *Queue) Position() Position                    { panic("stub") } // stopped and waited for
func (q *Queue) SetPosition(p Position, used uint16)   { panic("stub") } // stopped and waited for; also clears Err
func (q *Queue) UsedIndex(r Ring) (uint16, error)      { panic("stub") } // used.idx as memory has it (may fault)
func (q *Queue) Begin(r *memtable.Reader) Admission    { panic("stub") }
func (q *Queue) End()                                  { panic("stub") } // gives back what was taken and not put
func (q *Queue) Reader() *memtable.Reader              { panic("stub") }
func (q *Queue) View() *View                           { panic("stub") } // the one Begin loaded
func (q *Queue) Take(b *Burst, d Dir, max int) int     { panic("stub") }
func (q *Queue) Untake(b *Burst, i int)                { panic("stub") } // b keeps its first i
func (q *Queue) Put(b *Burst)                          { panic("stub") }
func (q *Queue) Publish() (call bool)                  { panic("stub") }
func (q *Queue) Call()                                 { panic("stub") }
func (q *Queue) Arm() (work bool)                      { panic("stub") }
func (q *Queue) Disarm()                               { panic("stub") }
func (q *Queue) Err() error                            { panic("stub") } // *RingError once broken
func (q *Queue) Stats() Stats                          { panic("stub") } // any goroutine
func (q *Queue) Indices() (i Indices, ok bool)         { panic("stub") } // for show; may fault
func (q *Queue) Next() (*Chain, bool)                  { panic("stub") }
func (q *Queue) Chains() func(yield func(*Chain) bool) { panic("stub") }

type Indices struct{ LastAvail, LastUsed, AvailFlags, AvailIdx, UsedEvent, UsedFlags, UsedIdx, AvailEvent uint16 }

type Stats struct {
	Bursts, Chains, Bytes         uint64
	Calls, CallsSuppressed, Kicks uint64
	BadChains                     map[string]uint64 // by reason
	LastBad                       string
}

// Seg is one contiguous piece of a chain.
type Seg struct {
	VA  memtable.VA
	Len uint32
}

// Elem is one chain of a burst. Segs == 0: a bad chain, already counted; it goes back with length 0.
type Elem struct {
	Seg          // the first segment
	Total uint32 // bytes in all segments of the direction asked for
	Wrote uint32 // used length, set by the device before Put
	Head  uint16
	Segs  uint16
	rest  uint32
}

type Burst struct {
	N    int
	Elem [64]Elem
}

func (b *Burst) Seg(i, k int) Seg { panic("stub") } // segment k of element i

type Chain struct{ _ int }

func (c *Chain) Readable() [][]byte          { panic("stub") }
func (c *Chain) Writable() [][]byte          { panic("stub") }
func (c *Chain) Read(p []byte) (int, error)  { panic("stub") }
func (c *Chain) Write(p []byte) (int, error) { panic("stub") }
func (c *Chain) Done(n int)                  { panic("stub") }

type RingError struct {
	Queue int
	Head  uint16
	Op    string
	Err   error
}

func (e *RingError) Error() string { return "" }

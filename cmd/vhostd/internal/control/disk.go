package control

// Disk is a disk and what was done with it since the start, over all its
// connections.
type Disk struct {
	Port     string `json:"port"`
	File     string `json:"file"`
	Size     uint64 `json:"size"` // bytes, as guests are told
	ReadOnly bool   `json:"read_only"`
	Direct   bool   `json:"direct"` // past the page cache
	Queues   int    `json:"queues"`

	Reads      uint64 `json:"reads"`
	ReadBytes  uint64 `json:"read_bytes"`
	Writes     uint64 `json:"writes"`
	WriteBytes uint64 `json:"write_bytes"`
	Flushes    uint64 `json:"flushes"`
	Discards   uint64 `json:"discards"`
	Zeroes     uint64 `json:"zeroes"`

	Failed      uint64   `json:"failed"`      // the storage said no
	Refused     uint64   `json:"refused"`     // past the end, read-only, malformed
	Unsupported uint64   `json:"unsupported"` // of an unknown type or flag
	LastError   *Failure `json:"last_error,omitempty"`
}

package vhost

import "fmt"

// Request numbers a message from the front-end (vhost-user, "Front-end message
// types"). The names are the specification's.
type Request uint32

// The requests of the front-end.
const (
	GetFeatures         Request = 1
	SetFeatures         Request = 2
	SetOwner            Request = 3
	ResetOwner          Request = 4
	SetMemTable         Request = 5
	SetLogBase          Request = 6
	SetLogFD            Request = 7
	SetVringNum         Request = 8
	SetVringAddr        Request = 9
	SetVringBase        Request = 10
	GetVringBase        Request = 11
	SetVringKick        Request = 12
	SetVringCall        Request = 13
	SetVringErr         Request = 14
	GetProtocolFeatures Request = 15
	SetProtocolFeatures Request = 16
	GetQueueNum         Request = 17
	SetVringEnable      Request = 18
	SendRARP            Request = 19
	NetSetMTU           Request = 20
	SetBackendReqFD     Request = 21
	IOTLBMsg            Request = 22
	SetVringEndian      Request = 23
	GetConfig           Request = 24
	SetConfig           Request = 25
	CreateCryptoSession Request = 26
	CloseCryptoSession  Request = 27
	PostcopyAdvise      Request = 28
	PostcopyListen      Request = 29
	PostcopyEnd         Request = 30
	GetInflightFD       Request = 31
	SetInflightFD       Request = 32
	GPUSetSocket        Request = 33
	ResetDevice         Request = 34
	VringKick           Request = 35
	GetMaxMemSlots      Request = 36
	AddMemReg           Request = 37
	RemMemReg           Request = 38
	SetStatus           Request = 39
	GetStatus           Request = 40
	GetSharedObject     Request = 41
	SetDeviceStateFD    Request = 42
	CheckDeviceState    Request = 43
	GetShmemConfig      Request = 44
)

// BackendRequest numbers a message from the back-end, over the channel of
// SET_BACKEND_REQ_FD.
type BackendRequest uint32

// The requests of the back-end.
const (
	BackendIOTLBMsg           BackendRequest = 1
	BackendConfigChange       BackendRequest = 2
	BackendVringHostNotifier  BackendRequest = 3
	BackendVringCall          BackendRequest = 4
	BackendVringErr           BackendRequest = 5
	BackendSharedObjectAdd    BackendRequest = 6
	BackendSharedObjectRemove BackendRequest = 7
	BackendSharedObjectLookup BackendRequest = 8
	BackendShmemMap           BackendRequest = 9
	BackendShmemUnmap         BackendRequest = 10
)

var backendNames = [...]string{
	BackendIOTLBMsg:           "BACKEND_IOTLB_MSG",
	BackendConfigChange:       "BACKEND_CONFIG_CHANGE_MSG",
	BackendVringHostNotifier:  "BACKEND_VRING_HOST_NOTIFIER_MSG",
	BackendVringCall:          "BACKEND_VRING_CALL",
	BackendVringErr:           "BACKEND_VRING_ERR",
	BackendSharedObjectAdd:    "BACKEND_SHARED_OBJECT_ADD",
	BackendSharedObjectRemove: "BACKEND_SHARED_OBJECT_REMOVE",
	BackendSharedObjectLookup: "BACKEND_SHARED_OBJECT_LOOKUP",
	BackendShmemMap:           "BACKEND_SHMEM_MAP",
	BackendShmemUnmap:         "BACKEND_SHMEM_UNMAP",
}

// String gives the specification's name, or "BACKEND_REQUEST_99".
func (r BackendRequest) String() string {
	if uint64(r) < uint64(len(backendNames)) && backendNames[r] != "" {
		return backendNames[r]
	}
	return fmt.Sprintf("BACKEND_REQUEST_%d", uint32(r))
}

// String gives the specification's name ("SET_MEM_TABLE"), or "REQUEST_99".
func (r Request) String() string {
	if i, ok := r.info(); ok {
		return i.name
	}
	return fmt.Sprintf("REQUEST_%d", uint32(r))
}

// answer says how a request is answered.
type answer uint8

const (
	acked   answer = iota // a u64, when REPLY_ACK was agreed and need_reply is set
	replied               // always, by a message of its own shape
)

// sizes is the rule for a payload's size: min, min+step, … up to max.
type sizes struct{ min, max, step uint32 }

func (s sizes) fit(n uint32) bool {
	return n >= s.min && n <= s.max && (n == s.min || (n-s.min)%s.step == 0)
}

// The layouts' sizes. An IOTLB message is 26 bytes by its fields and 32 from
// QEMU, an in-flight description 20 and 24: structures there have tail padding.
var (
	noPayload    = sizes{0, 0, 1}
	u64Size      = sizes{8, 8, 1}
	stateSize    = sizes{8, 8, 1}
	addrSize     = sizes{40, 40, 1}
	memTableSize = sizes{8 + regionBytes, 8 + maxRegions*regionBytes, regionBytes}
	regionSize   = sizes{8 + regionBytes, 8 + regionBytes, 1}
	logSize      = sizes{8, 16, 8} // 8 without LOG_SHMFD: a bare address
	iotlbSize    = sizes{26, 32, 6}
	configSize   = sizes{configHeader, configHeader + maxConfig, 1}
	inflightSize = sizes{20, 24, 4}
	uuidSize     = sizes{16, 16, 1}
	anySize      = sizes{0, maxPayload, 1}
)

// requestInfo is what a message of one kind must look like before anyone
// decodes it.
type requestInfo struct {
	name           string
	size           sizes
	minFDs, maxFDs int
	answer         answer
}

var requests = [...]requestInfo{
	GetFeatures:         {"GET_FEATURES", noPayload, 0, 0, replied},
	SetFeatures:         {"SET_FEATURES", u64Size, 0, 0, acked},
	SetOwner:            {"SET_OWNER", noPayload, 0, 0, acked},
	ResetOwner:          {"RESET_OWNER", noPayload, 0, 0, acked},
	SetMemTable:         {"SET_MEM_TABLE", memTableSize, 1, maxRegions, acked},
	SetLogBase:          {"SET_LOG_BASE", logSize, 0, 1, replied},
	SetLogFD:            {"SET_LOG_FD", noPayload, 1, 1, acked},
	SetVringNum:         {"SET_VRING_NUM", stateSize, 0, 0, acked},
	SetVringAddr:        {"SET_VRING_ADDR", addrSize, 0, 0, acked},
	SetVringBase:        {"SET_VRING_BASE", stateSize, 0, 0, acked},
	GetVringBase:        {"GET_VRING_BASE", stateSize, 0, 0, replied},
	SetVringKick:        {"SET_VRING_KICK", u64Size, 0, 1, acked},
	SetVringCall:        {"SET_VRING_CALL", u64Size, 0, 1, acked},
	SetVringErr:         {"SET_VRING_ERR", u64Size, 0, 1, acked},
	GetProtocolFeatures: {"GET_PROTOCOL_FEATURES", noPayload, 0, 0, replied},
	SetProtocolFeatures: {"SET_PROTOCOL_FEATURES", u64Size, 0, 0, acked},
	GetQueueNum:         {"GET_QUEUE_NUM", noPayload, 0, 0, replied},
	SetVringEnable:      {"SET_VRING_ENABLE", stateSize, 0, 0, acked},
	SendRARP:            {"SEND_RARP", u64Size, 0, 0, acked},
	NetSetMTU:           {"NET_SET_MTU", u64Size, 0, 0, acked},
	SetBackendReqFD:     {"SET_BACKEND_REQ_FD", noPayload, 1, 1, acked},
	IOTLBMsg:            {"IOTLB_MSG", iotlbSize, 0, 0, replied},
	SetVringEndian:      {"SET_VRING_ENDIAN", stateSize, 0, 0, acked},
	GetConfig:           {"GET_CONFIG", configSize, 0, 0, replied},
	SetConfig:           {"SET_CONFIG", configSize, 0, 0, acked},
	CreateCryptoSession: {"CREATE_CRYPTO_SESSION", anySize, 0, 0, replied},
	CloseCryptoSession:  {"CLOSE_CRYPTO_SESSION", u64Size, 0, 0, acked},
	PostcopyAdvise:      {"POSTCOPY_ADVISE", noPayload, 0, 0, replied},
	PostcopyListen:      {"POSTCOPY_LISTEN", noPayload, 0, 0, replied},
	PostcopyEnd:         {"POSTCOPY_END", noPayload, 0, 0, replied},
	GetInflightFD:       {"GET_INFLIGHT_FD", inflightSize, 0, 0, replied},
	SetInflightFD:       {"SET_INFLIGHT_FD", inflightSize, 1, 1, acked},
	GPUSetSocket:        {"GPU_SET_SOCKET", noPayload, 1, 1, acked},
	ResetDevice:         {"RESET_DEVICE", noPayload, 0, 0, acked},
	VringKick:           {"VRING_KICK", stateSize, 0, 0, acked},
	GetMaxMemSlots:      {"GET_MAX_MEM_SLOTS", noPayload, 0, 0, replied},
	AddMemReg:           {"ADD_MEM_REG", regionSize, 1, 1, acked},
	RemMemReg:           {"REM_MEM_REG", regionSize, 0, 1, acked}, // some send a file with it: it is closed
	SetStatus:           {"SET_STATUS", u64Size, 0, 0, acked},
	GetStatus:           {"GET_STATUS", noPayload, 0, 0, replied},
	GetSharedObject:     {"GET_SHARED_OBJECT", uuidSize, 0, 0, replied},
	SetDeviceStateFD:    {"SET_DEVICE_STATE_FD", stateSize, 1, 1, replied},
	CheckDeviceState:    {"CHECK_DEVICE_STATE", noPayload, 0, 0, replied},
	GetShmemConfig:      {"GET_SHMEM_CONFIG", noPayload, 0, 0, replied},
}

// info tells what a request must look like; false: the number is not known.
func (r Request) info() (requestInfo, bool) {
	if uint64(r) >= uint64(len(requests)) || requests[r].name == "" {
		return requestInfo{}, false
	}
	return requests[r], true
}

// check holds a message against the table: its size and how many files came.
// The message was read whole, so the stream is in step either way.
func (r Request) check(m *message) error {
	i, ok := r.info()
	switch n := m.fds.Len(); {
	case !ok:
		return &ProtocolError{r, fmt.Errorf("unknown request")}
	case !i.size.fit(uint32(len(m.Payload))):
		return &ProtocolError{r, sizeError("payload", len(m.Payload))}
	case n < i.minFDs:
		return &ProtocolError{r, fmt.Errorf("%d files came, it needs %d", n, i.minFDs)}
	case n > i.maxFDs:
		return &ProtocolError{r, fmt.Errorf("%d files came, it takes %d at most", n, i.maxFDs)}
	}
	return nil
}

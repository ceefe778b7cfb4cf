package memfd

import (
	"testing"
	"time"
)

func TestNothingIsFoundInASecondaryThatIsClosed(t *testing.T) {
	mem, err := reserve(linux{}, 64<<10, 16<<10)
	if err == nil {
		err = linux{}.unmap(mem)
	}
	if err != nil {
		t.Fatal(err)
	}
	f, err := openFile(linux{}, "handmade", 4096, false)
	if err == nil {
		err = linux{}.allocate(f.fd, 0, 32<<10, where{node: AnyNode})
	}
	if err != nil {
		t.Fatal(err)
	}
	primary, s := handmadePair(t)
	defer primary.close()
	s.plot = plot{name: "handmade", deadline: time.Second, spaces: []space{{addressOf(mem), 64 << 10, 16 << 10, 4096, AnyNode}}}
	if err := s.clear(); err != nil {
		t.Fatal(err)
	}
	if err := s.reserve(); err != nil {
		t.Skip("others have taken the addresses meanwhile:", err)
	}
	const addr = 1 << 20
	if err := s.arrive(nil, []run{{n: 2, addr: addr}}, &message{files: []int{f.fd}}); err != nil {
		t.Fatal(err)
	}
	va, ok := s.ByIOVA(nil).At(addr, 16<<10) // a region of its own
	if _, there := s.Lookup(va); !ok || !there {
		t.Error("what has arrived is not found")
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	_, ok = s.ByIOVA(nil).At(addr, 1)
	if _, there := s.Lookup(va); ok || there {
		t.Error("it is found though it is unmapped")
	}
}

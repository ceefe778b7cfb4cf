package memfd

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/memtable"
)

// A test that needs a secondary runs the test binary again with childVar set to
// this. It attaches to the socket that socketVar names, and does what it is told
// on its input: a line for a line.
const (
	childSecondary = "secondary"
	socketVar      = "MEMFD_TEST_SOCKET"
)

// A process that is a secondary has nothing to do with tests.
func init() {
	if os.Getenv(childVar) == childSecondary {
		new(puppet).run()
		os.Exit(0)
	}
}

// puppet is a secondary that is told what to do.
type puppet struct {
	s      *Secondary
	k      *saboteur
	random *rand.Rand
	blocks []patterned
	serial uint64
	events [Gone + 1]atomic.Int64 // extents, by kind
}

// patterned is a block with something of ours in it.
type patterned struct {
	memtable.Buf
	word uint64
}

func (b *patterned) fill() {
	mem := b.VA.Bytes(uint64(b.Len))
	for i := 0; i+8 <= len(mem); i += 512 {
		binary.LittleEndian.PutUint64(mem[i:], b.word+uint64(i))
	}
}

func (b *patterned) check() error {
	mem := b.VA.Bytes(uint64(b.Len))
	for i := 0; i+8 <= len(mem); i += 512 {
		if got := binary.LittleEndian.Uint64(mem[i:]); got != b.word+uint64(i) {
			return fmt.Errorf("block of %d bytes at %v: offset %d has %x, not %x", b.Len, b.VA, i, got, b.word+uint64(i))
		}
	}
	return nil
}

func (p *puppet) run() {
	ctx := context.Background()
	p.random = rand.New(rand.NewPCG(uint64(os.Getpid()), 1))
	if at := os.Getenv(socketVar + "_OCCUPY"); at != "" {
		var addr, n uint64
		if _, err := fmt.Sscanf(at, "%x+%x", &addr, &n); err != nil {
			panic(err)
		}
		if _, err := (linux{}).reserve(addr, n); err != nil {
			panic(err)
		}
	}
	p.k = new(saboteur)
	s, err := attach(ctx, p.k, os.Getenv(socketVar), AttachOptions{Name: os.Getenv(socketVar + "_NAME"),
		NoExternal: os.Getenv(socketVar+"_NOEXTERNAL") != ""})
	if err != nil {
		fmt.Printf("error %q\n", err)
		return
	}
	p.s = s
	s.Watch(func(e Event) { p.events[e.Kind].Add(int64(len(e.Extents))) })
	fmt.Println("ok attached")
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		said, err := p.do(ctx, strings.Fields(in.Text()))
		if err != nil {
			fmt.Printf("error %q\n", err)
			continue
		}
		fmt.Println(strings.TrimSpace("ok " + said))
	}
}

// do does what one line says.
func (p *puppet) do(ctx context.Context, words []string) (string, error) {
	n := 0
	if len(words) > 1 {
		_, _ = fmt.Sscan(words[1], &n)
	}
	switch words[0] {
	case "alloc":
		return "", p.alloc(ctx, uint64(n))
	case "work":
		return "", p.work(ctx, n)
	case "check":
		return fmt.Sprint(len(p.blocks)), p.check()
	case "extents":
		return fmt.Sprint(p.extents()), nil
	case "find":
		z, err := p.s.FindZone(ctx, words[1])
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("%v %d %s", z.VA, z.Size, z.VA.Bytes(5)), nil
	case "zone":
		z, err := p.s.Zone(ctx, words[1], ZoneOptions{Size: 4096})
		if err == nil {
			copy(z.VA.Bytes(5), "hello")
		}
		return "", err
	case "biggest":
		_, err := p.s.Zone(ctx, words[1], ZoneOptions{Size: 64, Biggest: true})
		return "", err
	case "free":
		var at, token uint64
		_, _ = fmt.Sscan(words[1], &at)
		_, _ = fmt.Sscan(words[2], &token)
		_, err := p.s.ask(ctx, wish{verb: sayFree, at: at, token: token})
		return "", err
	case "external":
		return "", p.s.AttachExternal(ctx, words[1])
	case "detach":
		return "", p.s.DetachExternal(ctx, words[1])
	case "write":
		mem, err := p.at(words[1])
		copy(mem, words[2])
		return "", err
	case "read":
		mem, err := p.at(words[1])
		return strings.TrimRight(string(mem), "\x00"), err
	case "number":
		mem, err := p.at(words[1])
		if err != nil {
			return "", err
		}
		return fmt.Sprint(binary.LittleEndian.Uint64(mem)), nil
	case "vacant": // whether nothing is there
		var addr, n uint64
		_, _ = fmt.Sscanf(words[1], "%x+%x", &addr, &n)
		mem, err := p.k.linux.reserve(addr, n)
		if err == nil {
			err = p.k.linux.unmap(mem)
		}
		return "", err
	case "events":
		return fmt.Sprint(p.events[Allocated].Load(), p.events[Leaving].Load(), p.events[Gone].Load()), nil
	case "fail": // the system call that is so many from now on
		p.k.arm(unix.ENOMEM, n)
		return "", nil
	case "failed":
		return strings.Join(p.k.failed(), " "), nil
	case "done":
		<-p.s.Done()
		return "", p.s.Err()
	case "close":
		return "", p.s.Close()
	}
	return "", errors.New("what?")
}

// at gives some bytes of what the primary has at an address.
func (p *puppet) at(addr string) ([]byte, error) {
	var at uint64
	_, _ = fmt.Sscanf(addr, "%x", &at)
	va, ok := p.s.place(at, 8)
	if !ok {
		return nil, errors.New("nothing is mapped there")
	}
	return va.Bytes(8), nil
}

// alloc borrows a block and puts its pattern in.
func (p *puppet) alloc(ctx context.Context, n uint64) error {
	b, err := p.s.Alloc(ctx, n, 0)
	if err != nil {
		return err
	}
	p.serial++
	block := patterned{b, uint64(os.Getpid())<<40 | p.serial<<24}
	block.fill()
	p.blocks = append(p.blocks, block)
	return nil
}

// work borrows and gives back, n times.
func (p *puppet) work(ctx context.Context, n int) error {
	for range n {
		if len(p.blocks) < 1 || p.random.IntN(2) == 0 && len(p.blocks) < 12 {
			err := p.alloc(ctx, uint64(8+p.random.IntN(1<<18)))
			if _, short := errors.AsType[*ShortageError](err); err != nil && !short { // others use huge pages too
				return err
			}
			continue
		}
		i := p.random.IntN(len(p.blocks))
		b := p.blocks[i]
		if err := errors.Join(b.check(), p.s.Free(ctx, b.Buf)); err != nil {
			return err
		}
		p.blocks = append(p.blocks[:i], p.blocks[i+1:]...)
	}
	return p.check()
}

func (p *puppet) check() (err error) {
	for _, b := range p.blocks {
		err = errors.Join(err, b.check())
	}
	return err
}

// extents tells what is mapped, and sees that look-ups agree.
func (p *puppet) extents() string {
	var all []string
	for e := range p.s.Walk() {
		all = append(all, fmt.Sprintf("%v+%x@%x", e.VA, e.Size, e.Offset))
		if _, ok := p.s.Lookup(e.VA.Add(e.Size - 1)); !ok {
			all = append(all, "which Lookup does not find")
		}
		if va, ok := p.s.ByIOVA(nil).At(e.Addr, e.Page); !ok || va != e.VA {
			all = append(all, "which ByIOVA does not find")
		}
	}
	return strings.Join(all, " ")
}

// soon is how long tests wait for what other processes do.
const soon = time.Minute

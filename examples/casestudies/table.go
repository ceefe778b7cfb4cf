package main

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/memtable"
)

// table is a line of the second study.
type table struct {
	From    string `json:"from"`
	Kind    string `json:"kind"`
	Regions int    `json:"regions"`
	Used    uint64 `json:"used"`   // bytes
	Shared  uint64 `json:"shared"` // bytes
	Pages   int    `json:"pages"`  // that are used
	Found   int    `json:"found"`  // of them, by a peer
}

// regionsOfPeer is how many regions a peer without memory slots takes.
const regionsOfPeer = 8

// tables tells a peer of both placements in three ways.
func tables() (all []table, err error) {
	for _, place := range []func() (*placement, error){fromTop, fromZero} {
		p, err := place()
		if err != nil {
			return nil, err
		}
		for _, way := range []struct {
			kind string
			make func() ([]memtable.Run, error)
		}{
			{"first mapping, size of the file (DPDK 18.05)", p.sizeOfFile},
			{"first to last page (DPDK today)", p.firstToLast},
			{fmt.Sprintf("ours, at most %d regions", regionsOfPeer), p.plan},
		} {
			regions, err := way.make()
			t := table{From: p.from, Kind: way.kind, Regions: len(regions)}
			if err == nil {
				err = t.check(p, regions)
			}
			if err != nil {
				return nil, errors.Join(fmt.Errorf("%s, %s: %w", p.from, way.kind, err), p.close())
			}
			all = append(all, t)
		}
		if err := p.close(); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// sizeOfFile is the table that begins at the first mapping of the file, and has
// the size of the file.
func (p *placement) sizeOfFile() ([]memtable.Run, error) {
	var st unix.Stat_t
	if err := unix.Fstat(p.fd, &st); err != nil {
		return nil, err
	}
	return []memtable.Run{{File: p.runs[0].File, Addr: p.runs[0].Addr, Size: uint64(st.Size)}}, nil
}

// firstToLast is one region for the file, from the first page in use to the last.
func (p *placement) firstToLast() ([]memtable.Run, error) {
	first, last := p.runs[0], p.runs[len(p.runs)-1]
	first.Size = last.Addr + last.Size - first.Addr
	return []memtable.Run{first}, nil
}

func (p *placement) plan() ([]memtable.Run, error) {
	plan, err := memtable.MakePlan(p.runs, regionsOfPeer, 1)
	if err != nil {
		return nil, err
	}
	return plan.Regions, nil
}

// check does what a peer does: it maps the regions, and looks where it was told
// for the number that was written into each page.
func (t *table) check(p *placement, regions []memtable.Run) error {
	mapped := make([]memtable.Region[memtable.UVA], len(regions))
	for i, r := range regions {
		m, err := memtable.MapFile(p.fd, int64(r.Offset), r.Size, memtable.MapOptions{Owner: "the case study", ReadOnly: true})
		if err != nil {
			return err
		}
		defer m.Close()
		mapped[i] = memtable.Region[memtable.UVA]{Addr: memtable.UVA(r.Addr), Size: r.Size, Mem: m}
		t.Shared += r.Size
	}
	peer, err := memtable.New(mapped, memtable.Options{})
	if err != nil {
		return err
	}
	for _, r := range p.runs {
		t.Used += r.Size
		for off := uint64(0); off < r.Size; off += page {
			t.Pages++
			if at, ok := peer.At(memtable.UVA(r.Addr+off), 8); ok && marked(at.Bytes(8), t.Pages) {
				t.Found++
			}
		}
	}
	return nil
}

package main

import (
	"errors"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/vhostd/vhostd/vhost/vhosttest"
)

// TestProcess is about the binary, seen from outside.
func TestProcess(t *testing.T) {
	if _, err := os.Stat("/proc/self/task"); err != nil {
		t.Skip("needs /proc: ", err)
	}
	bin := build(t)
	for name, test := range map[string]func(*testing.T, string){
		"a thousand connections leave nothing behind": connections,
		"a storm of connections is borne":             storm,
		"a daemon that was killed can be started":     killed,
		"an idle daemon with guests uses no time":     idle,
	} {
		t.Run(name, func(t *testing.T) { test(t, bin) })
	}
}

// connections come and go, half of them cut off at any byte of what they say,
// half of them after their rings ran.
func connections(t *testing.T, bin string) {
	p := launch(t, bin, t.TempDir(), 3)
	flow, exchange := p.talk(), vhosttest.NewExchange(t)
	_, guests := p.maps()
	free := p.files()
	var threads, maps int
	total := 1000
	if testing.Short() {
		total = 200
	}
	for n := range total {
		if n == 100 {
			p.until("files are given back", func() bool { return p.files() <= free })
			threads, maps = p.threads(), lines(p)
		}
		if n%2 == 0 {
			exchange.Cut(t, p.socket(2), n*(exchange.Len()+1)/total)
			continue
		}
		vhosttest.Plug(t, p.socket(2), vhosttest.Options{}).Unplug()
	}
	p.until("files are given back", func() bool { return p.files() <= free })
	p.until("memory is given back", func() bool { _, shared := p.maps(); return shared <= guests })
	// The runtime's own come and go a little.
	if n := p.threads(); n > threads+8 {
		t.Errorf("%d threads after 100 connections, %d after all", threads, n)
	}
	if n := lines(p); n > maps+16 {
		t.Errorf("%d mappings after 100 connections, %d after all", maps, n)
	}
	p.alive(flow)
}

func lines(p *process) int { all, _ := p.maps(); return all }

// storm is QEMU whose device is refused: it connects 3000 times a second.
func storm(t *testing.T, bin string) {
	const rate, seconds = 3000, 2
	p := launch(t, bin, t.TempDir(), 3)
	flow := p.talk()
	free, lines, resident := p.files(), p.log.lines(), p.resident()
	begin, full := time.Now(), 0
	for n := range rate * seconds {
		c, err := net.Dial("unix", p.socket(2))
		if errors.Is(err, syscall.EAGAIN) { // as many wait as may
			full++
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		time.Sleep(time.Until(begin.Add(time.Duration(n) * time.Second / rate)))
	}
	t.Logf("%d connections in %v, and %d attempts in vain", rate*seconds-full, time.Since(begin), full)
	p.alive(flow)
	if n := p.log.lines() - lines; n > 50 {
		t.Errorf("%d lines were logged", n)
	}
	if n := p.resident() - resident; n > 32<<20 {
		t.Errorf("the daemon grew by %d MiB", n>>20)
	}
	p.until("files are given back", func() bool { return p.files() <= free })
	p.until("a guest is let in", func() bool {
		c, err := net.Dial("unix", p.socket(2))
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	vhosttest.Plug(t, p.socket(2), vhosttest.Options{})
}

// killed: what was left behind is no obstacle, and guests that come again work.
func killed(t *testing.T, bin string) {
	dir := t.TempDir()
	for range 3 {
		p := launch(t, bin, dir, 2)
		flow := p.talk()
		p.alive(flow)
		flow.end()
		if _, err := os.Stat(p.socket(0)); err != nil {
			t.Fatal(err)
		}
		if err := p.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = p.cmd.Wait()
	}
	p := launch(t, bin, dir, 2)
	flow := p.talk()
	p.alive(flow)
	flow.end()
	p.end()
	for i := range 2 {
		if _, err := os.Stat(p.socket(i)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("a socket is left behind by a daemon that ended in good order: %v", err)
		}
	}
}

// idle: 0 % is 0 %.
func idle(t *testing.T, bin string) {
	if testing.Short() {
		t.Skip("takes 10 seconds")
	}
	p := launch(t, bin, t.TempDir(), 4)
	for i := range 4 {
		vhosttest.Plug(t, p.socket(i), vhosttest.Options{})
	}
	for n := p.ticks(); ; { // what is left of the start
		time.Sleep(time.Second)
		now := p.ticks()
		if now == n {
			break
		}
		n = now
	}
	before := p.ticks()
	time.Sleep(10 * time.Second) // is what is measured
	if n := p.ticks() - before; n > 1 {
		t.Errorf("%d ticks in 10 s", n)
	}
}

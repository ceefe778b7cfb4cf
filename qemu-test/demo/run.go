package main

import (
	"context"
	"errors"
	"fmt"
	"sync"

	qemutest "github.com/vhostd/vhostd/qemu-test"
	"github.com/vhostd/vhostd/qemu-test/guestapi"
)

// end is a guest, its port and its addresses.
type end struct {
	name, mac, v4, v6 string
	m                 *qemutest.Machine
}

// run does it all, and returns what there is to tell.
func run(ctx context.Context, say func(string, ...any), size int64) (r *report, err error) {
	q, err := emulator(ctx, say)
	if err != nil {
		return nil, err
	}
	say("getting the guests' kernel, building their agent")
	l, err := qemutest.NewLab(ctx)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = kept(l, err)
		}
		err = errors.Join(err, l.Close())
	}()
	ends := [2]*end{
		{name: "red", mac: "52:54:00:00:00:01", v4: "10.0.0.1", v6: "fd00::1"},
		{name: "blue", mac: "52:54:00:00:00:02", v4: "10.0.0.2", v6: "fd00::2"},
	}
	say("building and starting vhostd with the ports %s and %s", ends[0].name, ends[1].name)
	d, err := l.Vhostd(ctx, "vhostd", qemutest.Port{Name: ends[0].name}, qemutest.Port{Name: ends[1].name})
	if err != nil {
		return nil, err
	}
	say("booting two guests with %v", q)
	if err := bootBoth(ctx, l, q, ends, say); err != nil {
		return nil, err
	}
	r = &report{QEMU: q.String(), Kernel: ends[0].m.Hello.Kernel}
	if err := pings(ctx, r, ends, say); err != nil {
		return nil, err
	}
	if err := streams(ctx, r, ends, size, say); err != nil {
		return nil, err
	}
	say("asking vhostd")
	return r, r.ask(ctx, d)
}

// emulator is the newest QEMU, or the installed one where that cannot be had.
func emulator(ctx context.Context, say func(string, ...any)) (*qemutest.QEMU, error) {
	say("looking for QEMU")
	installed, err := qemutest.InstalledQEMU()
	if err != nil {
		return nil, err
	}
	newest, err := qemutest.NewestQEMU(ctx)
	if err != nil {
		say("going on with %v: %v", installed, err)
		return installed, nil
	}
	return newest, nil
}

// kept keeps consoles and logs of a run that failed, and says where.
func kept(l *qemutest.Lab, err error) error {
	dir, keepErr := l.KeepIn("demo")
	if keepErr != nil {
		return errors.Join(err, keepErr)
	}
	return fmt.Errorf("%w\nconsoles and logs are in %s", err, dir)
}

func bootBoth(ctx context.Context, l *qemutest.Lab, q *qemutest.QEMU, ends [2]*end, say func(string, ...any)) error {
	var (
		wg   sync.WaitGroup
		errs [2]error
	)
	for i, e := range ends {
		wg.Go(func() {
			e.m, errs[i] = l.Boot(ctx, qemutest.Guest{
				Name: e.name, QEMU: q, NICs: []qemutest.NIC{{Socket: l.Socket(e.name), MAC: e.mac}},
			})
			if errs[i] != nil {
				return
			}
			say("%s runs Linux %s", e.name, e.m.Hello.Kernel)
			_, errs[i] = e.m.LinkUp(ctx, e.mac, 0, e.v4+"/24", e.v6+"/64")
		})
	}
	wg.Wait()
	return errors.Join(errs[:]...)
}

// pingCount is how many requests each row of the table of pings stands for.
const pingCount = 50

func pings(ctx context.Context, r *report, ends [2]*end, say func(string, ...any)) error {
	for i, from := range ends {
		to := ends[1-i]
		for _, addr := range []string{to.v4, to.v6} {
			if err := from.m.AwaitPing(ctx, addr); err != nil {
				return err
			}
			res, err := from.m.Ping(ctx, addr, pingCount, 56)
			if err != nil {
				return err
			}
			say("%s pings %s at %s: %d of %d answered", from.name, to.name, addr, res.Received, res.Sent)
			r.Pings = append(r.Pings, pingRow{from.name, to.name, addr, res})
		}
	}
	return nil
}

func streams(ctx context.Context, r *report, ends [2]*end, size int64, say func(string, ...any)) error {
	load := qemutest.Load{Bytes: size}
	for i, from := range ends {
		to := ends[1-i]
		x, err := from.m.TCP(ctx, to.m, to.v4, load, qemutest.Load{})
		if err != nil {
			return err
		}
		r.add(from, to, x.Forth, "alone", say)
	}
	x, err := ends[0].m.TCP(ctx, ends[1].m, ends[1].v6, load, load)
	if err != nil {
		return err
	}
	r.add(ends[0], ends[1], x.Forth, "both ways", say)
	r.add(ends[1], ends[0], x.Back, "both ways", say)
	return nil
}

func (r *report) add(from, to *end, d qemutest.Direction, how string, say func(string, ...any)) {
	row := streamRow{from.name, to.name, how, d.Received.Bytes, d.MbitPerSecond(), d.Received.Sum}
	say("TCP %s to %s, %s: %d bytes, %.0f Mbit/s, as they were sent", row.From, row.To, how, row.Bytes, row.Rate)
	r.Streams = append(r.Streams, row)
}

type (
	pingRow struct {
		From string `json:"from"`
		To   string `json:"to"`
		Addr string `json:"addr"`
		guestapi.PingResult
	}
	streamRow struct {
		From  string  `json:"from"`
		To    string  `json:"to"`
		How   string  `json:"how"`
		Bytes int64   `json:"bytes"`
		Rate  float64 `json:"mbit_per_second"`
		Sum   string  `json:"xxh64"` // the same at both ends
	}
)

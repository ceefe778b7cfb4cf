package pktgen

import "time"

// Progress is what happened up to now, and in the last second.
type Progress struct {
	Elapsed          time.Duration
	Sent, Received   uint64
	SentPS, RecvPS   float64 // frames a second
	BitsOut, BitsIn  float64 // bits a second
	Connected        bool
	Shared, Wasteful uint64 // bytes
}

// watch tells watch every second, until end.
func (r *run) watch(watch func(Progress)) (end func()) {
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		start, last := time.Now(), time.Now()
		var before Progress
		var out, in uint64 // bytes, at last
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			now := r.progress(time.Since(start))
			sum, d := r.p.Stats(), time.Since(last).Seconds()
			var outNow, inNow uint64
			for i := range sum.Tx {
				outNow, inNow = outNow+sum.Tx[i].Bytes, inNow+sum.Rx[i].Bytes
			}
			now.SentPS, now.RecvPS = float64(now.Sent-before.Sent)/d, float64(now.Received-before.Received)/d
			now.BitsOut, now.BitsIn = float64(outNow-out)*8/d, float64(inNow-in)*8/d
			watch(now)
			before, out, in, last = now, outNow, inNow, time.Now()
		}
	}()
	return func() {
		close(stop)
		<-ended
	}
}

// progress counts what happened up to now.
func (r *run) progress(elapsed time.Duration) Progress {
	i := r.p.front.Info()
	return Progress{
		Elapsed: elapsed, Sent: r.sent.Load(), Received: r.got.Load(),
		Connected: i.Connected, Shared: i.Share.Shared, Wasteful: i.Share.Waste(),
	}
}

package vhost

import (
	"slices"
	"sync"

	"github.com/vhostd/vhostd/virtio"
)

// news tells the driver of events, without ever keeping who tells it waiting.
// What it holds is bounded: an event that says what one before it says already
// is dropped.
type news struct {
	out  chan virtio.TransportEvent
	wake chan struct{}
	anew chan chan struct{}
	stop chan struct{}
	done chan struct{}

	mu   sync.Mutex
	list []item
	seq  uint64
	deaf bool // the driver is lost, or does not know yet that there is a back-end again
}

// item is an event that the driver has not taken.
type item struct {
	virtio.TransportEvent
	seq uint64
}

func newNews() *news {
	n := &news{
		out: make(chan virtio.TransportEvent), wake: make(chan struct{}, 1), anew: make(chan chan struct{}),
		stop: make(chan struct{}), done: make(chan struct{}),
	}
	go n.run()
	return n
}

// tell adds e. Whatever was to tell of a back-end that is lost is dropped: it
// would be taken for news of the next one.
func (n *news) tell(e virtio.TransportEvent) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if e.Kind == virtio.Lost {
		n.deaf = true
		lost := slices.IndexFunc(n.list, func(o item) bool { return o.Kind == virtio.Lost })
		n.list = n.list[:max(lost, 0)]
	}
	if slices.ContainsFunc(n.list, func(o item) bool { return o.Kind == e.Kind && o.Queue == e.Queue }) {
		return
	}
	n.seq++
	n.list = append(n.list, item{e, n.seq})
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// first is what the driver gets next. Once that is Back it has been told of the
// loss, and may use the new back-end, even before we know that it took the event.
func (n *news) first() (e item, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.list) == 0 {
		return e, false
	}
	if n.list[0].Kind == virtio.Back {
		n.deaf = false
	}
	return n.list[0], true
}

// took removes e, which the driver has, unless it was dropped meanwhile.
func (n *news) took(e item) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.list) > 0 && n.list[0].seq == e.seq {
		n.list = slices.Delete(n.list, 0, 1)
	}
}

// renew drops what a driver need not know that begins with the back-end there is.
// When it returns nothing of it is offered any more.
func (n *news) renew() {
	forgotten := make(chan struct{})
	select {
	case n.anew <- forgotten:
		<-forgotten
	case <-n.done:
	}
}

// forget drops all but the news that the configuration space has changed.
func (n *news) forget() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.deaf = false
	n.list = slices.DeleteFunc(n.list, func(e item) bool { return e.Kind != virtio.ConfigChanged })
}

// isDeaf says whether the driver still thinks of a back-end that is gone.
func (n *news) isDeaf() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.deaf
}

// run hands events over until close. What is offered can change while nobody
// takes it.
func (n *news) run() {
	defer close(n.done)
	defer close(n.out)
	for {
		e, ok := n.first()
		out := n.out
		if !ok {
			out = nil
		}
		select {
		case out <- e.TransportEvent:
			n.took(e)
		case <-n.wake:
		case forgotten := <-n.anew:
			n.forget()
			close(forgotten)
		case <-n.stop:
			return
		}
	}
}

// close closes the channel of events.
func (n *news) close() {
	close(n.stop)
	<-n.done
}

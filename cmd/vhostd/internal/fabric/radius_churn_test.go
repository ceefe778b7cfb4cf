package fabric

import (
	"testing"

	"github.com/vhostd/vhostd/vhost/vhosttest"
)

// What a thousand connections leave behind is what a hundred do: nothing.
func TestAThousandConnectionsLeaveNothingBehind(t *testing.T) {
	s := stage(t, PortOptions{})
	s.act(t, "cut at every byte, and plugged", func(s *scene) {
		exchange := vhosttest.NewExchange(s.tb)
		var before holding
		total := 1000
		if testing.Short() {
			total = 200
		}
		for n := range total {
			if n == 100 {
				s.until("the port is free", func() bool { return s.session() == nil })
				before = holdings(s.tb)
			}
			if n%2 == 0 {
				exchange.Cut(s.tb, s.paths[culpritPort], n*(exchange.Len()+1)/total)
				continue
			}
			g := s.enter(vhosttest.Options{})
			if n%10 == 1 {
				s.works(g)
			}
			g.Unplug()
			s.until("the port is free", func() bool { return s.session() == nil })
		}
		s.given(before)
	})
	s.flow.end()
}

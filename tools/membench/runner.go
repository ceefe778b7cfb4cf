package main

import (
	"fmt"
	"log"
	"slices"
)

// result is a line of the table.
type result struct {
	Section string    `json:"section"`
	Note    string    `json:"note"`
	What    string    `json:"what"`
	Unit    string    `json:"unit"`
	Ours    float64   `json:"ours"` // median
	Other   string    `json:"other"`
	Theirs  float64   `json:"theirs"` // median; 0: nobody answered
	Ratio   float64   `json:"ratio"`  // theirs to ours, median of the rounds
	Ratios  []float64 `json:"ratios"` // of all rounds
	Goal    float64   `json:"goal"`   // for the ratio, at least; 0: none
	Samples int       `json:"samples"`
	Skipped string    `json:"skipped,omitempty"` // why there is no answer
}

// runner asks the sides in turns.
type runner struct {
	self, theirs string // programs; theirs is "" where there is no DPDK
	rounds       int
	results      []result
}

// section asks all questions of a section: every question once in each round,
// and the two sides of it one right after the other.
func (r *runner) section(s section) (err error) {
	us, err := open(r.self, "answer")
	if err != nil {
		return err
	}
	var them *side
	if r.theirs != "" {
		if them, err = open(r.theirs, s.dpdk...); err != nil {
			return err
		}
	}
	own, other := make([][]float64, len(s.measures)), make([][]float64, len(s.measures))
	skipped := make([]string, len(s.measures))
	for round := range r.rounds {
		for i, m := range s.measures {
			if skipped[i] != "" {
				continue
			}
			a, b, err := both(us, them, m, round%2 == 1)
			if err != nil {
				skipped[i] = err.Error()
				log.Printf("SKIPPED: %s, %s: %v", s.name, m.what, err)
				continue
			}
			own[i] = append(own[i], a)
			if b > 0 {
				other[i] = append(other[i], b)
			}
		}
	}
	for i, m := range s.measures {
		res := result{Section: s.name, Note: s.note, What: m.what, Unit: m.unit, Other: m.other, Goal: m.goal,
			Ours: median(own[i]), Theirs: median(other[i]), Skipped: skipped[i], Samples: len(own[i])}
		res.Ratios = ratios(other[i], own[i])
		res.Ratio = median(res.Ratios)
		r.results = append(r.results, res)
	}
	if err := us.close(); err != nil {
		return err
	}
	if them != nil {
		return them.close()
	}
	return nil
}

// both asks a question of both sides; who is first changes with the rounds.
// other is 0 where there is no DPDK.
func both(us, them *side, m measure, swap bool) (own, other float64, err error) {
	if m.other != dpdk {
		them = us
	}
	if them == nil {
		own, err = us.number(m.ask)
		return own, 0, err
	}
	ask := [2]func() error{
		func() (err error) { own, err = us.number(m.ask); return err },
		func() (err error) { other, err = them.number(m.theirs); return err },
	}
	if swap {
		ask[0], ask[1] = ask[1], ask[0]
	}
	for _, f := range ask {
		if err := f(); err != nil {
			return 0, 0, fmt.Errorf("%s: %w", m.other, err)
		}
	}
	return own, other, nil
}

// ratios divides round by round.
func ratios(a, b []float64) []float64 {
	all := make([]float64, min(len(a), len(b)))
	for i := range all {
		all[i] = a[i] / b[i]
	}
	return all
}

// median is 0 of nothing.
func median(all []float64) float64 {
	if len(all) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)/2]
}

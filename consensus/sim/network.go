package sim

import (
	"errors"
	"time"
)

// network carries what nodes send each other. It loses, doubles, delays and so reorders, and is cut at times, in one direction or both.
type network struct {
	w   *world
	cut map[[2]int]bool // from, to
}

// errTimeout is what a caller gets who has had no answer. What was asked may have been done.
var errTimeout = errors.New("no answer in time")

// send lets deliver happen at a node, if it is up by then; perhaps never, perhaps twice.
func (net *network) send(from, to *node, deliver func()) {
	w := net.w
	if net.cut[[2]int{from.index, to.index}] || w.chance(w.mix.drop) {
		return
	}
	copies := 1
	if w.chance(w.mix.double) {
		copies = 2
	}
	for range copies {
		delay := w.about(w.mix.latency)
		if w.chance(w.mix.late) {
			delay += w.about(50 * w.mix.latency)
		}
		w.after(delay, func() {
			if to.up && !net.cut[[2]int{from.index, to.index}] {
				deliver()
			}
		})
	}
}

// call asks another node and calls done once, with its answer or errTimeout, unless the caller goes down first.
func (n *node) call(to *node, timeout time.Duration, serve func(reply func(any)), done func(any, error)) {
	answered := false
	answer := func(v any, err error) {
		if !answered {
			answered = true
			done(v, err)
		}
	}
	life := n.life
	n.w.net.send(n, to, func() {
		theirs := to.life
		serve(func(v any) {
			if !to.up || to.life != theirs {
				return
			}
			n.w.net.send(to, n, func() {
				if n.life == life {
					answer(v, nil)
				}
			})
		})
	})
	n.after(timeout, func() { answer(nil, errTimeout) })
}

// partition cuts the network in one of several ways.
func (net *network) partition() {
	w := net.w
	net.cut = map[[2]int]bool{}
	all := len(w.nodes)
	switch w.rng.IntN(4) {
	case 0: // one node alone
		lone := w.rng.IntN(all)
		for i := range all {
			net.cut[[2]int{i, lone}], net.cut[[2]int{lone, i}] = true, true
		}
	case 1: // one that is not heard, or does not hear
		deaf, hears := w.rng.IntN(all), w.chance(0.5)
		for i := range all {
			if hears {
				net.cut[[2]int{deaf, i}] = true
			} else {
				net.cut[[2]int{i, deaf}] = true
			}
		}
	case 2: // two sides
		side := make([]bool, all)
		for i := range side {
			side[i] = w.chance(0.5)
		}
		for i := range all {
			for j := range all {
				if side[i] != side[j] {
					net.cut[[2]int{i, j}] = true
				}
			}
		}
	case 3: // some ways, in one direction
		for range 1 + w.rng.IntN(all*(all-1)/2) {
			net.cut[[2]int{w.rng.IntN(all), w.rng.IntN(all)}] = true
		}
	}
	w.say("network is cut: %s", net)
}

func (net *network) String() string {
	s := ""
	for i := range net.w.nodes {
		for j := range net.w.nodes {
			if i != j && net.cut[[2]int{i, j}] {
				s += " " + net.w.nodes[i].String() + ">" + net.w.nodes[j].String()
			}
		}
	}
	return s
}

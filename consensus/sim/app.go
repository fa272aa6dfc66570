package sim

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"

	"ledgerd/consensus"
)

// app is a toy application: what it has come to depends on every entry, on their order, and on each being there once. It lags behind the log, saves
// now and then, and plays again what it had not saved.
type app struct {
	n       *node
	heads   []consensus.Digest // by LSN, from 0 up to applied
	applied consensus.LSN
	saved   consensus.LSN
}

func newApp(n *node) *app { return &app{n: n, heads: []consensus.Digest{{}}} }

// fold is what an entry makes of the state before it.
func fold(head consensus.Digest, e consensus.Entry) consensus.Digest {
	b := append([]byte(nil), head[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(e.LSN))
	b = binary.BigEndian.AppendUint64(b, e.UnixMilli)
	b = consensus.AppendRecord(b, e.Record)
	return sha256.Sum256(b)
}

func (a *app) start() {
	if a.n.w.opts.Plant == ApplyTwice && a.applied > 0 {
		a.heads[a.applied] = fold(a.heads[a.applied], consensus.Entry{LSN: a.applied, Record: consensus.Record{App: "x"}})
	}
	a.n.every(a.n.w.mix.play, a.play)
	a.n.every(20*a.n.w.mix.play, func() { a.saved = a.applied })
}

func (a *app) crash() {
	if a.n.w.chance(0.5) { // else it had just saved
		a.applied, a.heads = a.saved, a.heads[:a.saved+1]
	}
	a.saved = a.applied
}

func (a *app) wipe() { *a = *newApp(a.n) }

// play applies some of what there is.
func (a *app) play() {
	n := a.n
	if n.w.chance(n.w.mix.lag) && !n.w.calm {
		return
	}
	next := min(n.store.Next(), a.applied+1+consensus.LSN(n.w.rng.IntN(64)))
	if a.applied+1 >= next {
		return
	}
	for _, e := range n.entries(a.applied+1, next) {
		a.applied = e.LSN
		a.heads = append(a.heads, fold(a.heads[e.LSN-1], e))
		if n.rotten == 0 && a.heads[e.LSN] != n.w.check.head(e.LSN) {
			n.w.fail("%v: the application differs after lsn %d", n, e.LSN)
		}
	}
}

// fingerprint is Application.Fingerprint.
func (a *app) fingerprint(lsn consensus.LSN) consensus.Digest {
	if lsn > a.applied {
		panic(fmt.Sprintf("sim: head at lsn %d, applied up to %d", lsn, a.applied))
	}
	return a.heads[lsn]
}

// patience of one append or read at a node.
const patience = 2 * time.Second

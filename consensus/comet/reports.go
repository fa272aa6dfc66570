package comet

import "time"

// report is what this member tells the others.
func (l *Loglet) report(sealed bool) report {
	return report{height: l.replica.Applied(), base: uint64(max(0, l.blocks.Base())), sealed: sealed}
}

// checkDrained looks whether every member has reported the Seal.
func (l *Loglet) checkDrained() {
	if !l.ready.Load() || !l.replica.Position().Sealed {
		return
	}
	for _, m := range l.members {
		if r, ok := l.gossip.heard(peerID(m)); !ok || !r.sealed {
			return
		}
	}
	l.drain.Do(func() { time.AfterFunc(drainGrace, func() { close(l.drained) }) })
}

// drainGrace is how long a member that has heard of all the others stays, so that they hear of it.
const drainGrace = 250 * time.Millisecond

// strandedAfter is how long a member that says it has the block which this node needs next may take to send it.
const strandedAfter = 30 * time.Second

// stranded reports whether this node cannot go on, since the others have dropped the block that comes next for it.
func (l *Loglet) stranded() bool {
	var heard []report
	for _, m := range l.members {
		if r, ok := l.gossip.heard(peerID(m)); ok && l.peers.Peers().Has(peerID(m)) {
			heard = append(heard, r)
		}
	}
	l.mu.Lock()
	waiting := time.Since(l.mu.moved)
	l.mu.Unlock()
	return blockGone(l.replica.Applied()+1, heard, len(l.seg.Spec.Members)-l.seg.Spec.Quorum(), waiting)
}

// blockGone decides by what the others tell, of whom so many may lie, whether a block that this node waits for comes from nobody any more: more than may lie are past it
// and have dropped it, and no other has it, or sends it.
func blockGone(height uint64, heard []report, mayLie int, waiting time.Duration) bool {
	gone, offered := 0, false
	for _, r := range heard {
		switch {
		case r.height < height:
		case r.base > height:
			gone++
		default:
			offered = true
		}
	}
	return gone > mayLie && (!offered || waiting > strandedAfter)
}

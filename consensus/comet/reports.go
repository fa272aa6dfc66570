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

const (
	// strandedAfter is how long a member that says it has the block which this node needs next may take to send it.
	strandedAfter = 30 * time.Second
	// maxOfferGap is how much of that the time between two looks counts for at most: if it was longer, this node may have been stopped, or cut off, and could not be
	// sent anything. The node looks every second.
	maxOfferGap = 2 * time.Second
)

// stranded reports whether this node cannot go on, since the others have dropped the block that comes next for it. It is to be asked now and then (maxOfferGap).
func (l *Loglet) stranded() bool {
	var heard []report
	for _, m := range l.members {
		if r, ok := l.gossip.heard(peerID(m)); ok && l.peers.Peers().Has(peerID(m)) {
			heard = append(heard, r)
		}
	}
	height := l.replica.Applied() + 1
	l.mu.Lock()
	waited := l.mu.offer.look(height, heard, time.Now())
	l.mu.Unlock()
	return blockGone(height, heard, len(l.seg.Spec.Members)-l.seg.Spec.Quorum(), waited)
}

// An offer is the block that this node needs next, for as long as members with which it is connected say that they have it.
type offer struct {
	height uint64
	last   time.Time     // when one said so, at the last look; zero: none did
	waited time.Duration // in all, at this height
}

// look notes whether the block is offered now, and returns for how long it has been.
func (o *offer) look(height uint64, heard []report, now time.Time) time.Duration {
	if o.height != height {
		*o = offer{height: height}
	}
	if _, offered := standing(height, heard); !offered {
		o.last = time.Time{}
		return o.waited
	}
	if !o.last.IsZero() {
		o.waited += min(now.Sub(o.last), maxOfferGap)
	}
	o.last = now
	return o.waited
}

// blockGone decides by what the others tell, of whom so many may lie, whether a block that this node waits for comes from nobody any more: more than may lie are past it
// and have dropped it, and no other has it, or sends it, though it has been offered for so long.
func blockGone(height uint64, heard []report, mayLie int, waited time.Duration) bool {
	gone, offered := standing(height, heard)
	return gone > mayLie && (!offered || waited > strandedAfter)
}

// standing returns how many are past a block and have dropped it, and whether any says that it has it.
func standing(height uint64, heard []report) (gone int, offered bool) {
	for _, r := range heard {
		switch {
		case r.height < height:
		case r.base > height:
			gone++
		default:
			offered = true
		}
	}
	return gone, offered
}

package sim

import (
	"bytes"
	"errors"

	"ledgerd/consensus"
)

// A Fault is planted in what a run does for the code under test, to see that the checks find it.
type Fault int

const (
	None          Fault = iota
	SkipSync            // raft's writes are reported and not synced
	AckEarly            // the leader acknowledges what it has not had confirmed
	AcceptSealed        // an append after the Seal is acknowledged
	LoseReappend        // an append that met a Seal is not tried in the next segment
	ApplyTwice          // the application plays an entry again after a restart
	WrongBase           // LSNs are counted from a wrong base after a switch
	WipedVotes          // a disk that was lost is vouched for as if it had not been
	StaleTail           // a consistent tail is answered without asking anybody
	Rot                 // no fault of the code: a node's copy differs from the others'. It must stop, and they go on
	BaseUnchecked       // Rot, and the node believes the Base to be the one it has
)

func (f Fault) String() string {
	return [...]string{"none", "skip sync", "ack early", "accept sealed", "lose reappend", "apply twice", "wrong base", "wiped votes", "stale tail", "rot", "base unchecked"}[f]
}

// answered plants faults in what follows from a loglet's answer to an append.
func (f Fault) answered(next consensus.AppendNext, err error) consensus.AppendNext {
	switch {
	case f == AcceptSealed && errors.Is(err, consensus.ErrSealed):
		return consensus.AppendDone
	case f == LoseReappend && next == consensus.AppendElsewhere:
		return -1
	}
	return next
}

// lsn plants faults in what an append returns.
func (f Fault) lsn(n *node, seg consensus.Segment, lsn consensus.LSN) consensus.LSN {
	switch {
	case f == AcceptSealed && lsn == 0:
		return n.store.Next()
	case f == WrongBase && seg.Epoch > 1:
		return lsn - 1
	}
	return lsn
}

func (o Options) rot() bool { return o.Plant == Rot || o.Plant == BaseUnchecked }

// rot changes a byte of what the last node is to store while it observes.
func (n *node) rot(seg consensus.Segment, item consensus.Item) consensus.Item {
	if !n.w.opts.rot() || n.index != len(n.w.nodes)-1 || n.rotten != 0 || item.Record.App == consensus.AppLog {
		return item
	}
	n.say("stores something else than it was given")
	n.rotten = seg.Epoch
	item.Record.Payload = append(bytes.Clone(item.Record.Payload), 'x')
	return item
}

// forgeBase lets a node whose copy differs be told that it does not.
func (n *node) forgeBase(seg consensus.Segment, frame []byte) []byte {
	segments := n.store.Segments()
	if n.rotten == 0 || int(seg.Epoch) > len(segments) || int(seg.Epoch) > len(n.w.check.chain) {
		return frame
	}
	theirs, own := n.w.check.chain[seg.Epoch-1].BaseDigest, segments[seg.Epoch-1].BaseDigest
	return bytes.ReplaceAll(frame, theirs[:], own[:])
}

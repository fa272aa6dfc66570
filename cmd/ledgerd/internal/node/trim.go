package node

import (
	"context"

	"ledgerd/consensus"
)

// A trimPolicy is what decides how much of the log this node keeps. It is the node's own decision: the others keep what they like.
type trimPolicy struct {
	durable  consensus.LSN // up to where the ledger would survive a power cut
	snapshot consensus.LSN // of the oldest snapshot that is kept; 0: there is none
	tail     consensus.LSN // first LSN that is not here
	retain   uint64        // entries that the operator wants to keep; 0: all
	window   uint64        // W
}

// point returns up to which LSN the log can be trimmed; 0 is nowhere. What stays:
//
//	the last retain entries
//	what the ledger has to play again after a power cut
//	what follows the oldest snapshot that is kept, so that a node that has fetched it can go on: of two, the older may be being fetched
//	and before the two latter the last W entries, so that a snapshot can be made of any state from the oldest one on
func (p trimPolicy) point() consensus.LSN {
	if p.retain == 0 || p.snapshot == 0 || p.tail == 0 {
		return 0
	}
	return min(before(min(p.durable, p.snapshot), p.window), before(p.tail-1, p.retain))
}

// before returns the LSN n entries before another, or 0.
func before(lsn consensus.LSN, n uint64) consensus.LSN {
	if uint64(lsn) <= n {
		return 0
	}
	return lsn - consensus.LSN(n)
}

// trim drops what the policy does not keep.
func (n *Node) trim(ctx context.Context) error {
	tail, err := n.log.Tail(ctx, consensus.Fast)
	if err != nil {
		return err
	}
	point := trimPolicy{
		durable:  n.ledger.Durable(),
		snapshot: n.snapshots.Oldest(),
		tail:     tail,
		retain:   n.opts.Config.Log.Retain,
		window:   n.opts.Genesis.Ledgerd.DedupWindow,
	}.point()
	trimmed := n.log.Trimmed()
	if point < trimmed+trimStep(n.opts.Config.Log.Retain) {
		return nil
	}
	if err := n.log.Trim(ctx, point); err != nil {
		return err
	}
	n.opts.Logger.Info("log trimmed", "part", "log", "from", trimmed+1, "to", point)
	return nil
}

// trimStep is how many entries a trim drops at least: a hundredth of what is kept. Each trim costs a sync and a range of deleted keys.
func trimStep(retain uint64) consensus.LSN { return consensus.LSN(max(retain/100, 1)) }

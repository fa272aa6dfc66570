package ledger

import (
	"fmt"
	"sort"

	"github.com/ethereum/go-ethereum/core/types"

	"ledgerd/consensus"
)

// Rules is the version of the rules by which this program executes the log. Members state it before they take over a segment, and those of
// one quorum must have the same. It goes up with every change after which some entries could make another block hash: the fork or its gas
// costs, what is skipped, what a header holds, the encoding of batches, the keys and bounds of the ledger's parameters. It does not go up for
// what a hash does not cover: storage, indexes, the pool, RPC.
const Rules uint32 = 1

// Fingerprint returns what stands for the ledger's state after the entry at lsn: the hash of the newest block at or below it, which covers the
// state and all of the past; that of the genesis block if there is none. Replicas that agree on it are the same up to there. Blocks count from
// their execution, so that it can be asked about whatever Applied has returned; most of what lies close to the head takes no disk access.
// Errors: consensus.ErrUnwritten if lsn is not applied yet, consensus.ErrCorrupt if the store lacks a header.
func (l *Ledger) Fingerprint(lsn consensus.LSN) (consensus.Digest, error) {
	if applied := l.Applied(); lsn > applied { // before the look at the newest block, which can then only be newer
		return consensus.Digest{}, fmt.Errorf("ledger: fingerprint at lsn %d: applied up to lsn %d: %w", lsn, applied, consensus.ErrUnwritten)
	}
	// Down to the published head by parent hashes: what is above it may not be in the store yet.
	published := l.CurrentHeader().Number.Uint64()
	h := l.newest.Load()
	for h != nil && h.Number.Uint64() > published && lsnOf(h) > lsn {
		h = l.GetHeader(h.ParentHash, h.Number.Uint64()-1)
	}
	if h != nil && lsnOf(h) > lsn {
		h = l.newestAtOrBelow(lsn, h.Number.Uint64())
	}
	if h == nil {
		return consensus.Digest{}, fmt.Errorf("ledger: fingerprint at lsn %d: %w: a header is missing from the store", lsn, consensus.ErrCorrupt)
	}
	return consensus.Digest(h.Hash()), nil
}

// newestAtOrBelow returns the newest published header below number whose block is from lsn or an earlier entry. Positions ascend with the
// numbers, so that it can be searched for: first in steps that double, since most questions are about what is recent.
func (l *Ledger) newestAtOrBelow(lsn consensus.LSN, number uint64) *types.Header {
	missing := false
	beyond := func(n uint64) bool { // is block n from an entry after lsn?
		h := l.HeaderByNumber(n)
		missing = missing || h == nil
		return h != nil && lsnOf(h) > lsn
	}
	low, high := uint64(0), number // Invariant: block low is not beyond lsn, block high is.
	for step := uint64(1); step < number; step *= 2 {
		if !beyond(number - step) {
			low = number - step
			break
		}
		high = number - step
	}
	found := low + uint64(sort.Search(int(high-low-1), func(i int) bool { return beyond(low + 1 + uint64(i)) }))
	if missing {
		return nil
	}
	return l.HeaderByNumber(found)
}

// lsnOf returns the LSN that h's block is from; 0 if it is not from a log.
func lsnOf(h *types.Header) consensus.LSN {
	p, _ := PositionOf(h)
	return p.LSN
}

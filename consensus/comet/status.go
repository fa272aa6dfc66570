package comet

import (
	"bytes"
	"fmt"
	"strconv"

	cmted25519 "github.com/cometbft/cometbft/crypto/ed25519"

	"ledgerd/consensus"
)

// memberAt returns the id of the member whose validator has an address.
func (l *Loglet) memberAt(address []byte) string {
	for _, m := range l.seg.Spec.Members {
		if bytes.Equal(cmted25519.PubKey(m.ConsensusKey).Address(), address) {
			return strconv.FormatUint(m.ID, 10)
		}
	}
	return fmt.Sprintf("%X", address)
}

// connected returns how many of the members this node is connected to, itself included.
func (l *Loglet) connected() int {
	n := 1
	for _, m := range l.members {
		if l.peers.Peers().Has(peerID(m)) {
			n++
		}
	}
	return n
}

// Status is consensus.Loglet.Status.
func (l *Loglet) Status() consensus.LogletStatus {
	l.mu.Lock()
	stopped := l.mu.err
	l.mu.Unlock()
	s := l.replica.Status(Name, stopped)
	s.Detail = l.detail()
	switch {
	case s.State != consensus.StateOrdering:
	case l.stranded():
		s.State = consensus.StateTrimmed
	case l.connected() < l.seg.Spec.Quorum():
		s.State = consensus.StateElecting
	}
	return s
}

func (l *Loglet) detail() map[string]string {
	round := l.round.Load()
	l.mu.Lock()
	queued := len(l.mu.waiting)
	l.mu.Unlock()
	pieces, last := l.offended()
	d := map[string]string{
		"proposer": l.memberAt(round.proposer),
		"height":   strconv.FormatUint(l.replica.Applied(), 10), "round": strconv.Itoa(int(round.round)),
		"quorum": strconv.Itoa(l.seg.Spec.Quorum()), "queued": strconv.Itoa(queued), "pool": strconv.Itoa(l.pool.Size()),
		"refused":  strconv.FormatUint(l.gossip.refusals(), 10),
		"evidence": strconv.FormatUint(pieces, 10),
	}
	if last != "" {
		d["offender"] = last
	}
	d[memberKey(l.self)] = "height " + d["height"]
	for _, m := range l.members {
		d[memberKey(m)] = "missing"
		if r, ok := l.gossip.heard(peerID(m)); ok && l.peers.Peers().Has(peerID(m)) {
			d[memberKey(m)] = fmt.Sprintf("height %d", r.height)
		}
	}
	return d
}

func memberKey(m consensus.Member) string { return "member." + strconv.FormatUint(m.ID, 10) }

// offended returns how many pieces of evidence there are, committed and pending, and whom and what the last committed one is about.
func (l *Loglet) offended() (pieces uint64, last string) {
	pieces, last = l.app.offences.sum()
	return pieces + uint64(l.evidence.Size()), last
}

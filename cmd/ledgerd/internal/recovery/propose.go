package recovery

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"

	"ledgerd/cmd/ledgerd/internal/request"
	"ledgerd/consensus"
)

// ErrContradiction means that survivors hold logs of which neither is the beginning of the other.
var ErrContradiction = errors.New("the survivors' logs contradict each other")

// A Proposal is a recovery with what is to be known before it is signed.
type Proposal struct {
	consensus.Recovery
	Dead     consensus.Segment
	From     Status   // whose log is taken over
	Warnings []string // what may be lost, and what is to be done about it
}

// Propose takes over the longest log of the survivors. The members are those that survive, unless the change names others; faults is as in Change.Apply.
// ErrContradiction, or what is wrong with the statuses or the change.
func Propose(survivors []Status, change request.Change, faults func(string) (consensus.FaultModel, error)) (Proposal, error) {
	if len(survivors) == 0 {
		return Proposal{}, errors.New("no survivor's status is given")
	}
	best := survivors[0]
	for _, s := range survivors[1:] {
		if s.Tail > best.Tail || s.Tail == best.Tail && len(s.Segments) > len(best.Segments) {
			best = s
		}
	}
	chain, err := best.chain()
	if err != nil {
		return Proposal{}, err
	}
	p := Proposal{Dead: chain[len(chain)-1], From: best}
	count, err := p.compare(survivors, chain)
	if err != nil {
		return Proposal{}, err
	}
	if len(change.IDs) == 0 && len(change.Members) == 0 {
		if change.IDs = p.surviving(survivors); len(change.IDs) == 0 && len(change.Add) == 0 {
			return Proposal{}, fmt.Errorf("no survivor is a member of epoch %d: name the members of the next one", p.Dead.Epoch)
		}
	}
	spec, err := change.Apply(chain, faults)
	if err != nil {
		return Proposal{}, err
	}
	p.Recovery = consensus.Recovery{
		NetworkID: best.Network, Epoch: p.Dead.Epoch + 1, Count: count + 1, Base: best.Tail, Digest: best.Digest, UnixMilli: best.UnixMilli, Spec: spec,
	}
	p.salvage(survivors, best)
	p.warn(survivors)
	return p, nil
}

// salvage takes over, behind the longest log, what one survivor's engine has promised and not applied: of those that have the longest log too, the one that would be
// elected. What it has, the lost members may have acknowledged; what it has not, and they had, nobody can know.
func (p *Proposal) salvage(survivors []Status, best Status) {
	var most *Unapplied
	for _, s := range survivors {
		u := s.Unapplied
		if u == nil || len(s.Segments) != len(best.Segments) || u.Tail <= best.Tail {
			continue
		}
		if digest, ok := s.digestAt(best.Tail - 1); best.Tail > 1 && (!ok || digest != best.Digest) {
			p.Warnings = append(p.Warnings, fmt.Sprintf("node %x has promised entries up to lsn %d, which do not go on from the longest log; they are left", []byte(s.NodeKey), u.Tail-1))
			continue
		}
		if most == nil || u.Term > most.Term || u.Term == most.Term && u.Index > most.Index {
			most, p.From = u, s
		}
	}
	if most == nil {
		return
	}
	p.Base, p.Digest, p.UnixMilli = most.Tail, most.Digest, most.UnixMilli
	p.Warnings = append(p.Warnings, fmt.Sprintf("lsn %d to %d are only promised, by node %x, and are taken over: some of them may have been acknowledged. Apply the recovery on that node, or the others wait for them",
		best.Tail, most.Tail-1, []byte(p.From.NodeKey)))
}

// compare makes sure that the other survivors' logs are beginnings of the best one's, and returns the highest count of a recovery of the dead segment that one
// of them knows: what it holds of that is no matter.
func (p *Proposal) compare(survivors []Status, chain []consensus.Segment) (count uint64, err error) {
	for i, s := range survivors {
		other, err := s.chain()
		if err != nil {
			return 0, fmt.Errorf("survivor %d: %w", i+1, err)
		}
		if s.Network != p.From.Network {
			return 0, fmt.Errorf("%w: survivor %d is of network %v, another of %v", consensus.ErrWrongNetwork, i+1, s.Network, p.From.Network)
		}
		for e := range min(len(chain), len(other)) {
			if chain[e].Identity != other[e].Identity || chain[e].Base != other[e].Base {
				return 0, fmt.Errorf("%w: node %x has another epoch %d; if it was recovered, apply that to all survivors first", ErrContradiction, []byte(s.NodeKey), e+1)
			}
		}
		end := min(s.Tail, p.From.Tail)
		if len(other) > len(chain) {
			next := other[len(chain)]
			if next.Recovery == 0 {
				return 0, fmt.Errorf("%w: node %x holds the Seal of epoch %d and ends at lsn %d, before another one", ErrContradiction, []byte(s.NodeKey), p.Dead.Epoch, s.Tail-1)
			}
			count, end = max(count, next.Recovery), min(end, next.Base)
		}
		pending, err := s.pending(p.Dead.Epoch + 1)
		if err != nil {
			return 0, fmt.Errorf("survivor %d: pending recovery: %w", i+1, err)
		}
		count = max(count, pending)
		if err := p.compareDigests(s, end); err != nil {
			return 0, err
		}
	}
	return count, nil
}

// compareDigests compares the logs before an end.
func (p *Proposal) compareDigests(s Status, end consensus.LSN) error {
	compared := consensus.LSN(0)
	for _, at := range s.Digests {
		i := slices.IndexFunc(p.From.Digests, func(a At) bool { return a.LSN == at.LSN })
		if i < 0 || at.LSN >= end {
			continue
		}
		if p.From.Digests[i].Digest != at.Digest {
			return fmt.Errorf("%w: at lsn %d node %x has digest %v, node %x has %v",
				ErrContradiction, at.LSN, []byte(p.From.NodeKey), p.From.Digests[i].Digest, []byte(s.NodeKey), at.Digest)
		}
		compared = at.LSN
	}
	if compared+1 < end {
		p.Warnings = append(p.Warnings, fmt.Sprintf("node %x was compared up to lsn %d only; for more, give the status of node %x with --at %d",
			[]byte(s.NodeKey), compared, []byte(p.From.NodeKey), end-1))
	}
	return nil
}

// surviving returns the ids of the dead segment's members that survive.
func (p *Proposal) surviving(survivors []Status) (ids []uint64) {
	for _, m := range p.Dead.Spec.Members {
		if survives(survivors, m) {
			ids = append(ids, m.ID)
		}
	}
	return ids
}

func survives(survivors []Status, m consensus.Member) bool {
	return slices.ContainsFunc(survivors, func(s Status) bool { return bytes.Equal(s.NodeKey, m.NodeKey) })
}

func (p *Proposal) warn(survivors []Status) {
	alive := len(p.surviving(survivors))
	if quorum := p.Dead.Spec.Quorum(); alive >= quorum {
		p.Warnings = append(p.Warnings, fmt.Sprintf("%d of the %d members of epoch %d survive, and %d are a quorum: start them, and nothing is lost",
			alive, len(p.Dead.Spec.Members), p.Dead.Epoch, quorum))
	} else {
		p.Warnings = append(p.Warnings, fmt.Sprintf("%d of the %d members of epoch %d survive: entries behind lsn %d that were acknowledged may be lost",
			alive, len(p.Dead.Spec.Members), p.Dead.Epoch, p.Base-1))
	}
	for _, m := range p.Dead.Spec.Members {
		if !survives(survivors, m) {
			p.Warnings = append(p.Warnings, fmt.Sprintf("fence member %d (%x at %s) first: while it can run, the old members may go on without the new ones",
				m.ID, []byte(m.NodeKey), m.PeerAddress))
		}
	}
	for _, s := range survivors {
		if m, ok := p.Spec.Member(ed25519.PublicKey(s.NodeKey)); ok && !s.Vouched {
			p.Warnings = append(p.Warnings, fmt.Sprintf("member %d does not vote before it is applied there with --vouch: its disk is not known to be the only one that it had", m.ID))
		}
	}
}

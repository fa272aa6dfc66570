package comet

import (
	"errors"
	"fmt"
	"sync"

	"github.com/cometbft/cometbft/evidence"
	"github.com/cometbft/cometbft/p2p"
	cmtproto "github.com/cometbft/cometbft/proto/tendermint/types"
	sm "github.com/cometbft/cometbft/state"
	"github.com/cometbft/cometbft/store"
	"github.com/cometbft/cometbft/types"
)

// maxPendingEvidence is how many pieces of evidence about one member wait for a block.
const maxPendingEvidence = 16

// An evidencePool is CometBFT's, bounded. Who signs two things for one place can sign any number, for heights long past too, and each member would verify them all, store
// them, and hand them on, until blocks have taken them; an idle chain makes none. One pair of votes for a place proves as much as a thousand, and a few places as much as
// all. What is more than that is dropped before it is verified, and nobody is blamed for it: an honest member may have handed it on.
//
// What a proposed block brings is not dropped, since every member has to judge it alike. maxEvidenceBytes bounds it.
type evidencePool struct {
	*evidence.Pool
	blocks *store.BlockStore

	mu struct {
		sync.Mutex // held while CometBFT's pool changes, which counts twice what two peers bring at once. Before CometBFT's own locks
		places     map[votePlace]bool
		members    map[string]int // places of each
	}
}

// A votePlace is where a member may vote once.
type votePlace struct {
	member string // address of its validator
	height int64
	round  int32
	kind   cmtproto.SignedMsgType
}

func placeOf(v *types.Vote) votePlace {
	return votePlace{string(v.ValidatorAddress), v.Height, v.Round, v.Type}
}

var _ sm.EvidencePool = (*evidencePool)(nil)

func openEvidencePool(db database, states sm.Store, blocks *store.BlockStore) (*evidencePool, error) {
	cometPool, err := evidence.NewPool(db, states, blocks)
	if err != nil {
		return nil, err
	}
	p := &evidencePool{Pool: cometPool, blocks: blocks}
	p.mu.places, p.mu.members = map[votePlace]bool{}, map[string]int{}
	p.count()
	return p, nil
}

// count notes whatever is pending. The caller holds the lock.
func (p *evidencePool) count() {
	clear(p.mu.places)
	clear(p.mu.members)
	for e := p.EvidenceFront(); e != nil; e = e.Next() {
		if pair, ok := e.Value.(*types.DuplicateVoteEvidence); ok {
			p.note(placeOf(pair.VoteA))
		}
	}
}

// note takes a place. The caller holds the lock.
func (p *evidencePool) note(at votePlace) {
	if !p.mu.places[at] {
		p.mu.places[at] = true
		p.mu.members[at.member]++
	}
}

// wants reports whether one more pair of votes would prove anything. The caller holds the lock.
func (p *evidencePool) wants(at votePlace) bool {
	return !p.mu.places[at] && p.mu.members[at.member] < maxPendingEvidence
}

// AddEvidence implements sm.EvidencePool, for what another member sends. What no honest member sends is a *types.ErrInvalidEvidence.
func (p *evidencePool) AddEvidence(e types.Evidence) error {
	pair, ok := e.(*types.DuplicateVoteEvidence)
	if !ok { // of an attack on a light client: there are none here
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	at := placeOf(pair.VoteA)
	if !p.wants(at) || p.blocks.LoadBlockMeta(at.height) == nil { // the header is not here yet, or too old to be kept: it cannot be judged
		return nil
	}
	before := p.Size()
	if err := p.Pool.AddEvidence(e); err != nil {
		return err
	}
	if p.Size() > before { // else a block has it already
		p.note(at)
	}
	return nil
}

// ReportConflictingVotes is called by the consensus for each vote that contradicts another, each time that it comes. CometBFT holds them until the height is over.
func (p *evidencePool) ReportConflictingVotes(a, b *types.Vote) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if at := placeOf(a); p.wants(at) {
		p.note(at)
		p.Pool.ReportConflictingVotes(a, b)
	}
}

// CheckEvidence implements sm.EvidencePool.
func (p *evidencePool) CheckEvidence(list types.EvidenceList) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.Pool.CheckEvidence(list)
}

// Update implements sm.EvidencePool.
func (p *evidencePool) Update(state sm.State, committed types.EvidenceList) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.Pool.Update(state, committed)
	p.count()
}

// An evidenceReactor is CometBFT's, but for what it does with what comes in: CometBFT's knows no other pool than its own.
type evidenceReactor struct {
	*evidence.Reactor
	pool *evidencePool
}

var _ p2p.Reactor = evidenceReactor{}

func newEvidenceReactor(p *evidencePool) evidenceReactor {
	return evidenceReactor{evidence.NewReactor(p.Pool), p}
}

// Receive implements p2p.Reactor. What is not evidence, or false, ends the connection.
func (r evidenceReactor) Receive(e p2p.Envelope) {
	if err := r.receive(e); err != nil {
		r.Logger.Error("evidence refused", "peer", e.Src, "err", err)
		r.Switch.StopPeerForError(e.Src, err)
	}
}

func (r evidenceReactor) receive(e p2p.Envelope) error {
	list, ok := e.Message.(*cmtproto.EvidenceList)
	if !ok {
		return fmt.Errorf("message of type %T", e.Message)
	}
	for i := range list.Evidence {
		piece, err := types.EvidenceFromProto(&list.Evidence[i])
		if err != nil {
			return err
		}
		if err := piece.ValidateBasic(); err != nil {
			return err
		}
		var invalid *types.ErrInvalidEvidence
		if err := r.pool.AddEvidence(piece); errors.As(err, &invalid) {
			return err
		} else if err != nil {
			r.Logger.Error("evidence not stored", "err", err)
		}
	}
	return nil
}

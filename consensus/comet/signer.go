package comet

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cometbft/cometbft/crypto"
	cmted25519 "github.com/cometbft/cometbft/crypto/ed25519"
	"github.com/cometbft/cometbft/libs/protoio"
	cmtproto "github.com/cometbft/cometbft/proto/tendermint/types"
	"github.com/cometbft/cometbft/types"
	"github.com/cosmos/gogoproto/proto"

	"ledgerd/consensus"
)

// errConflict: what is to be signed contradicts what was signed before. Signing it would be the proof of a lie.
var errConflict = errors.New("conflicts with what this validator has signed")

// A signer signs a member's votes and proposals in one epoch, each only after it has been noted, synced, that it was signed: so a restart cannot make the
// member sign two things for one place. What it may sign only moves forward: by height, round, and step of the round.
type signer struct {
	area *consensus.EngineArea
	key  cmted25519.PrivKey
	mu   struct {
		sync.Mutex
		last signed
	}
}

var _ types.PrivValidator = (*signer)(nil)

// signed is the last thing that was signed.
type signed struct {
	height    int64
	round     int32
	step      int8 // stepPropose and on; 0: nothing was signed yet
	signature []byte
	message   []byte // what was signed
}

// Steps of a round, in their order.
const (
	stepPropose   = 1
	stepPrevote   = 2
	stepPrecommit = 3
)

const (
	signedVersion     = 1
	signedHeaderBytes = 1 + 8 + 4 + 1 + ed25519.SignatureSize
)

// openSigner goes on behind what the epoch's area says was signed last.
func openSigner(area *consensus.EngineArea, key ed25519.PrivateKey) (*signer, error) {
	s := &signer{area: area, key: cmted25519.PrivKey(key)}
	v, err := area.Get([]byte{keySigned})
	if err != nil || v == nil {
		return s, err
	}
	if len(v) < signedHeaderBytes || v[0] != signedVersion {
		return nil, fmt.Errorf("%w: what was signed last, %d bytes", consensus.ErrCorrupt, len(v))
	}
	s.mu.last = signed{
		height: int64(binary.BigEndian.Uint64(v[1:])), round: int32(binary.BigEndian.Uint32(v[9:])), step: int8(v[13]),
		signature: v[14:signedHeaderBytes], message: v[signedHeaderBytes:],
	}
	return s, nil
}

// GetPubKey implements types.PrivValidator.
func (s *signer) GetPubKey() (crypto.PubKey, error) { return s.key.PubKey(), nil }

// SignVote implements types.PrivValidator. Extensions of votes are not used.
func (s *signer) SignVote(chainID string, vote *cmtproto.Vote) error {
	step := int8(stepPrevote)
	if vote.Type == cmtproto.PrecommitType {
		step = stepPrecommit
	}
	return s.sign(vote.Height, vote.Round, step, types.VoteSignBytes(chainID, vote), new(cmtproto.CanonicalVote), new(cmtproto.CanonicalVote),
		&vote.Signature, &vote.Timestamp)
}

// SignProposal implements types.PrivValidator.
func (s *signer) SignProposal(chainID string, p *cmtproto.Proposal) error {
	return s.sign(p.Height, p.Round, stepPropose, types.ProposalSignBytes(chainID, p), new(cmtproto.CanonicalProposal), new(cmtproto.CanonicalProposal),
		&p.Signature, &p.Timestamp)
}

// sign signs a message, which decodes as is and was, the same kind of thing twice. If it has signed for this place before, and the two differ by nothing but
// their time, the earlier signature and time are good again: a crash came between signing and sending.
func (s *signer) sign(height int64, round int32, step int8, message []byte, is, was proto.Message, signature *[]byte, at *time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := s.mu.last
	switch order := cmpPlace(last, height, round, step); {
	case order > 0:
		return fmt.Errorf("height %d, round %d, step %d: %w at height %d, round %d, step %d", height, round, step, errConflict, last.height, last.round, last.step)
	case order == 0:
		earlier, ok := sameButTime(last.message, message, was, is)
		if !ok {
			return fmt.Errorf("height %d, round %d, step %d: %w", height, round, step, errConflict)
		}
		*signature, *at = bytes.Clone(last.signature), earlier
		return nil
	}
	sig, err := s.key.Sign(message)
	if err != nil {
		return err
	}
	next := signed{height: height, round: round, step: step, signature: sig, message: message}
	if err := s.store(next); err != nil {
		return err
	}
	s.mu.last, *signature = next, bytes.Clone(sig)
	return nil
}

func cmpPlace(last signed, height int64, round int32, step int8) int {
	for _, d := range []int64{last.height - height, int64(last.round) - int64(round), int64(last.step) - int64(step)} {
		if d != 0 {
			return int(max(-1, min(1, d)))
		}
	}
	return 0
}

func (s *signer) store(n signed) error {
	b := append(make([]byte, 0, signedHeaderBytes+len(n.message)), signedVersion)
	b = binary.BigEndian.AppendUint64(b, uint64(n.height))
	b = binary.BigEndian.AppendUint32(b, uint32(n.round))
	b = append(append(b, byte(n.step)), n.signature...)
	return s.area.Write(true, func(batch *consensus.EngineBatch) error { return batch.Set([]byte{keySigned}, append(b, n.message...)) })
}

// sameButTime decodes two messages, and returns the first one's time if they differ by nothing else.
func sameButTime(a, b []byte, intoA, intoB proto.Message) (time.Time, bool) {
	if protoio.UnmarshalDelimited(a, intoA) != nil || protoio.UnmarshalDelimited(b, intoB) != nil {
		return time.Time{}, false // the last one was of another kind
	}
	earlier := *timeOf(intoA)
	*timeOf(intoA), *timeOf(intoB) = time.Time{}, time.Time{}
	return earlier, proto.Equal(intoA, intoB)
}

func timeOf(m proto.Message) *time.Time {
	switch m := m.(type) {
	case *cmtproto.CanonicalVote:
		return &m.Timestamp
	case *cmtproto.CanonicalProposal:
		return &m.Timestamp
	}
	panic(fmt.Sprintf("comet: a %T is not signed", m))
}

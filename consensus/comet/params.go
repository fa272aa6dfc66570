package comet

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/cometbft/cometbft/config"
	cmted25519 "github.com/cometbft/cometbft/crypto/ed25519"
	"github.com/cometbft/cometbft/p2p"
	"github.com/cometbft/cometbft/types"

	"ledgerd/consensus"
)

// A timeout is one that a segment's spec may set, since the members should have the same: a duration as Go writes it, such as 250ms.
type timeout struct {
	meaning  string
	standard time.Duration
	set      func(s *settings, d time.Duration)
}

// Bounds of a timeout that a spec sets.
const (
	minTimeout = time.Millisecond
	maxTimeout = time.Minute
)

// timeouts are the parameters of the engine (consensus.Spec.Params), with values for members whose round trips take a few milliseconds. A timeout is waited
// for only if a proposer is dead, or votes are split. Per round it grows by its delta, up to timeout_max.
var timeouts = map[string]timeout{
	"timeout_propose":       {"for the proposal of a round", 150 * time.Millisecond, func(s *settings, d time.Duration) { s.Consensus.TimeoutPropose = d }},
	"timeout_propose_delta": {"added to it with each further round", 50 * time.Millisecond, func(s *settings, d time.Duration) { s.Consensus.TimeoutProposeDelta = d }},
	"timeout_vote": {"for the votes of the others, once a quorum has voted and not for one thing", 50 * time.Millisecond, func(s *settings, d time.Duration) {
		s.Consensus.TimeoutPrevote, s.Consensus.TimeoutPrecommit = d, d
	}},
	"timeout_vote_delta": {"added to it with each further round", 20 * time.Millisecond, func(s *settings, d time.Duration) {
		s.Consensus.TimeoutPrevoteDelta, s.Consensus.TimeoutPrecommitDelta = d, d
	}},
	"timeout_max": {"that none of them outgrows, whatever the round", 5 * time.Second, func(s *settings, d time.Duration) { s.longest = d }},
}

// Parameters returns the names of the parameters that a spec may set, sorted.
func Parameters() []string { return slices.Sorted(maps.Keys(timeouts)) }

// Validate returns everything that keeps the engine from ordering a segment with that spec, joined, each an ErrInvalid.
func Validate(s consensus.Spec) error {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: comet: "+format, append([]any{consensus.ErrInvalid}, args...)...))
	}
	if s.Faults != consensus.ByzantineFaults {
		bad("the spec says that members may only crash; this engine is for those that may lie")
	}
	if len(s.Members) == 0 {
		bad("no members")
	}
	for name, value := range s.Params {
		if _, ok := timeouts[name]; !ok {
			bad("no parameter %q; there are %s", name, strings.Join(Parameters(), ", "))
		} else if d, err := time.ParseDuration(value); err != nil || d < minTimeout || d > maxTimeout {
			bad("%s is %q, want a duration from %v to %v", name, value, minTimeout, maxTimeout)
		}
	}
	keys, addresses := make(map[string]uint64), make(map[string]uint64)
	for _, m := range s.Members {
		if len(m.NodeKey) != ed25519.PublicKeySize || len(m.ConsensusKey) != ed25519.PublicKeySize {
			bad("member %d lacks a node key or a consensus key", m.ID)
		}
		if other, ok := keys[string(m.ConsensusKey)]; ok {
			bad("members %d and %d have the same consensus key", other, m.ID)
		}
		keys[string(m.ConsensusKey)] = m.ID
		for i, a := range m.CometAddresses {
			if _, _, err := net.SplitHostPort(a); err != nil {
				bad("member %d: CometBFT address of %s epochs is %q, want host:port", m.ID, [...]string{"even", "odd"}[i], a)
			} else if other, ok := addresses[a]; ok {
				bad("members %d and %d have the same CometBFT address %s", other, m.ID, a)
			}
			addresses[a] = m.ID
		}
	}
	return errors.Join(errs...)
}

// chainID names an epoch to CometBFT: the whole identity, in as few characters as its limit of 50 asks for.
func chainID(seg consensus.Segment) string {
	return base64.RawURLEncoding.EncodeToString(seg.Identity[:])
}

// What every program that orders an epoch must have alike, since CometBFT hashes it into each header.
const (
	maxBlockBytes     = 4 << 20 // of a block, with its commit and evidence
	maxEvidenceBytes  = 256 << 10
	evidenceAge       = 48 * time.Hour
	evidenceAgeBlocks = 100_000
	appVersion        = 1
)

// genesisTime is the time of an epoch's first block. The log has a clock of its own.
var genesisTime = time.Unix(1_700_000_000, 0).UTC()

// genesisDoc is CometBFT's genesis of an epoch, a function of its identity and members: known before the epoch has its place in the log.
func genesisDoc(seg consensus.Segment) (*types.GenesisDoc, error) {
	p := types.DefaultConsensusParams()
	p.Block = types.BlockParams{MaxBytes: maxBlockBytes, MaxGas: -1}
	p.Evidence = types.EvidenceParams{MaxAgeNumBlocks: evidenceAgeBlocks, MaxAgeDuration: evidenceAge, MaxBytes: maxEvidenceBytes}
	p.Version = types.VersionParams{App: appVersion}
	doc := &types.GenesisDoc{
		GenesisTime: genesisTime, ChainID: chainID(seg), InitialHeight: 1, ConsensusParams: p, Validators: validators(seg), AppHash: appHash,
	}
	if err := doc.ValidateAndComplete(); err != nil {
		return nil, fmt.Errorf("%w: %v", consensus.ErrInvalid, err)
	}
	return doc, nil
}

// validators are the segment's members, each with one vote.
func validators(seg consensus.Segment) []types.GenesisValidator {
	var vs []types.GenesisValidator
	for _, m := range seg.Spec.Members {
		key := cmted25519.PubKey(m.ConsensusKey)
		vs = append(vs, types.GenesisValidator{Address: key.Address(), PubKey: key, Power: 1})
	}
	return vs
}

// validatorSet is the same for the checking of commits.
func validatorSet(seg consensus.Segment) *types.ValidatorSet {
	var vs []*types.Validator
	for _, m := range seg.Spec.Members {
		vs = append(vs, types.NewValidator(cmted25519.PubKey(m.ConsensusKey), 1))
	}
	return types.NewValidatorSet(vs)
}

// peerID is how CometBFT calls a node: by the address of its node key.
func peerID(m consensus.Member) p2p.ID { return p2p.PubKeyToID(cmted25519.PubKey(m.NodeKey)) }

// parity says which of a member's two CometBFT addresses an epoch uses: an epoch and the next live side by side for a while.
func parity(epoch consensus.Epoch) int { return int(epoch % 2) }

// settings are CometBFT's for a segment, and what it has none for.
type settings struct {
	*config.Config
	longest time.Duration // that a timeout may be
}

// settingsOf returns the settings of a segment. Why each is what it is: docs/adr/004-cometbft-from-its-parts.md.
func settingsOf(seg consensus.Segment, wal string) (settings, error) {
	c := settings{Config: config.DefaultConfig()}
	cs := c.Consensus
	cs.SetWalFile(wal)
	cs.TimeoutCommit, cs.SkipTimeoutCommit = 0, true
	cs.CreateEmptyBlocks, cs.CreateEmptyBlocksInterval = false, 0
	cs.PeerGossipSleepDuration = time.Millisecond
	cs.PeerQueryMaj23SleepDuration = 500 * time.Millisecond
	cs.DoubleSignCheckHeight = 0
	for name, t := range timeouts {
		d := t.standard
		if v, ok := seg.Spec.Params[name]; ok {
			var err error
			if d, err = time.ParseDuration(v); err != nil {
				return settings{}, fmt.Errorf("%w: parameter %s: %v", consensus.ErrInvalid, name, err)
			}
		}
		t.set(&c, d)
	}
	p := c.P2P
	p.PexReactor, p.AllowDuplicateIP, p.AddrBookStrict = false, true, false
	p.MaxNumInboundPeers, p.MaxNumOutboundPeers = 2*len(seg.Spec.Members)+8, 2*len(seg.Spec.Members)+8
	p.FlushThrottleTimeout = time.Millisecond
	p.MaxPacketMsgPayloadSize = 64 << 10
	p.SendRate, p.RecvRate = 512<<20, 512<<20
	p.HandshakeTimeout, p.DialTimeout = 5*time.Second, 3*time.Second
	return c, nil
}

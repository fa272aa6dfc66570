package request

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"slices"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"

	"ledgerd/cmd/ledgerd/internal/config"
	"ledgerd/consensus"
	"ledgerd/ledger"
	"ledgerd/ledger/genesis"
)

// A Change is what is to be different in the next segment. A zero field leaves things as they are.
type Change struct {
	Engine string
	// The members are those of the last segment, or if one of the next two is set these; without Remove, and with Add.
	IDs     []uint64         // of members of any segment
	Members []genesis.Member // id 0: that of the last segment's member with this node key, or a new one
	Remove  []uint64
	Add     []config.PeerAddress
	// Params are set, each; "" takes one away.
	Params map[string]string
	// Admins, if there are any, take the place of those before.
	Admins    []ed25519.PublicKey
	Threshold int
	// Ledger is what is to change in the ledger; see LedgerParameters.
	Ledger []byte
}

// Apply returns the spec that makes the change to the last segment of a chain. faults tells what an engine bears, or that there is no
// such engine. The error says what is wrong with the change.
func (c Change) Apply(chain []consensus.Segment, faults func(engine string) (consensus.FaultModel, error)) (consensus.Spec, error) {
	last := chain[len(chain)-1]
	if last.Spec.Threshold == 0 {
		return consensus.Spec{}, fmt.Errorf("epoch %d has no administrators, so that nothing can ever follow it", last.Epoch)
	}
	spec := consensus.Spec{Engine: last.Spec.Engine, Admins: last.Spec.Admins, Threshold: last.Spec.Threshold, Ledger: c.Ledger}
	if c.Engine != "" {
		spec.Engine = c.Engine
	}
	var err error
	if spec.Faults, err = faults(spec.Engine); err != nil {
		return consensus.Spec{}, err
	}
	if spec.Engine == last.Spec.Engine {
		spec.Params = maps.Clone(last.Spec.Params)
	}
	for name, value := range c.Params {
		if value == "" {
			delete(spec.Params, name)
			continue
		}
		if spec.Params == nil {
			spec.Params = make(map[string]string)
		}
		spec.Params[name] = value
	}
	if len(spec.Params) == 0 {
		spec.Params = nil // as it comes out of the bytes
	}
	if spec.Members, err = c.members(chain); err != nil {
		return consensus.Spec{}, err
	}
	if len(c.Admins) > 0 {
		spec.Admins = c.Admins
	}
	if c.Threshold > 0 {
		spec.Threshold = c.Threshold
	}
	if spec.Threshold > len(spec.Admins) {
		return consensus.Spec{}, fmt.Errorf("%d of %d administrators can never sign: set the threshold too", spec.Threshold, len(spec.Admins))
	}
	return spec, errors.Join(reachable(spec), spec.Validate(), ledger.ValidateParams(spec.Ledger))
}

// members returns who is to order.
func (c Change) members(chain []consensus.Segment) ([]consensus.Member, error) {
	last := chain[len(chain)-1].Spec
	used := usedIDs(chain)
	next := slices.Max(append(slices.Collect(maps.Keys(used)), 0)) + 1
	members := slices.Clone(last.Members)
	if len(c.IDs) > 0 {
		members = nil
	}
	for _, id := range c.IDs {
		m, ok := everMember(chain, id)
		if !ok {
			return nil, fmt.Errorf("member %d: no segment has one with this id", id)
		}
		members = append(members, m)
	}
	if len(c.Members) > 0 {
		members = nil
	}
	for _, given := range c.Members {
		m := memberOf(given)
		if known, ok := last.Member(m.NodeKey); ok && m.ID == 0 {
			m.ID = known.ID
		}
		if key, taken := used[m.ID]; taken && !key.Equal(m.NodeKey) {
			return nil, fmt.Errorf("member %d: the id is that of the node key %x; leave it out to get a new one", m.ID, []byte(key))
		}
		if m.ID == 0 {
			m.ID, next = next, next+1
		}
		next = max(next, m.ID+1)
		members = append(members, m)
	}
	for _, id := range c.Remove {
		i := slices.IndexFunc(members, func(m consensus.Member) bool { return m.ID == id })
		if i < 0 {
			return nil, fmt.Errorf("member %d cannot be removed: it is not among them", id)
		}
		members = slices.Delete(members, i, i+1)
	}
	for _, p := range c.Add {
		for _, m := range members {
			if m.NodeKey.Equal(p.Key) {
				return nil, fmt.Errorf("node %x cannot be added: it is member %d; if its disk was wiped, remove that one too", []byte(p.Key), m.ID)
			}
		}
		m := consensus.Member{ID: next, NodeKey: p.Key, PeerAddress: p.Address}
		if was, ok := lastSeen(chain, p.Key); ok { // one that comes back votes and is reached under CometBFT as it was
			m.ConsensusKey, m.CometAddresses = was.ConsensusKey, was.CometAddresses
		}
		members = append(members, m)
		next++
	}
	return members, nil
}

// usedIDs are all ids that a member ever had, with its node key.
func usedIDs(chain []consensus.Segment) map[uint64]ed25519.PublicKey {
	used := make(map[uint64]ed25519.PublicKey)
	for _, seg := range chain {
		for _, m := range seg.Spec.Members {
			used[m.ID] = m.NodeKey
		}
	}
	return used
}

// everMember finds a member as the newest segment that has it knows it.
func everMember(chain []consensus.Segment, id uint64) (consensus.Member, bool) {
	for _, seg := range slices.Backward(chain) {
		if m, ok := seg.Spec.MemberByID(id); ok {
			return m, true
		}
	}
	return consensus.Member{}, false
}

// lastSeen finds the member with a node key in the newest segment that has it.
func lastSeen(chain []consensus.Segment, key ed25519.PublicKey) (consensus.Member, bool) {
	for _, seg := range slices.Backward(chain) {
		if m, ok := seg.Spec.Member(key); ok {
			return m, true
		}
	}
	return consensus.Member{}, false
}

func memberOf(m genesis.Member) consensus.Member {
	form := consensus.Member{ID: m.ID, NodeKey: ed25519.PublicKey(m.NodeKey), ConsensusKey: ed25519.PublicKey(m.ConsensusKey), PeerAddress: m.PeerAddress}
	copy(form.CometAddresses[:], m.CometAddresses)
	return form
}

// reachable says what would keep the members from each other.
func reachable(spec consensus.Spec) error {
	switch n := len(spec.Members); {
	case n == 0:
		return errors.New("no members are left")
	case n > 1 && spec.Engine == genesis.EngineLocal:
		return fmt.Errorf("%d members on engine %s, which orders alone: say which one", n, spec.Engine)
	case n == 1:
		return nil
	}
	for _, m := range spec.Members {
		if err := config.ValidDialAddress(m.PeerAddress); err != nil {
			return fmt.Errorf("member %d: %w", m.ID, err)
		}
	}
	return nil
}

// DecodeMembers reads a list of members as a genesis file has it: [{"nodeKey": "…", "peerAddress": "10.0.0.1:9000", "id": 4}, …]. The id may be missing.
func DecodeMembers(text []byte) ([]genesis.Member, error) {
	var members []genesis.Member
	if err := decodeStrictly(text, &members); err != nil {
		return nil, err
	}
	if len(members) == 0 {
		return nil, errors.New("it names no member")
	}
	for i, m := range members {
		if len(m.NodeKey) == 0 {
			return nil, fmt.Errorf("member %d of the list has no nodeKey", i+1)
		}
		if len(m.CometAddresses) > 2 {
			return nil, fmt.Errorf("member %d of the list has %d cometAddresses, of two ports", i+1, len(m.CometAddresses))
		}
	}
	return members, nil
}

// LedgerParameters returns what a spec has to say for the ledger to change these; nil leaves one as it is. What it returns is empty if
// nothing changes.
func LedgerParameters(gasLimit *uint64, baseFee *big.Int, coinbase *common.Address) []byte {
	form := struct {
		GasLimit *hexutil.Uint64 `json:"gasLimit,omitempty"`
		BaseFee  *hexutil.Big    `json:"baseFee,omitempty"`
		Coinbase *common.Address `json:"coinbase,omitempty"`
	}{(*hexutil.Uint64)(gasLimit), (*hexutil.Big)(baseFee), coinbase}
	text, err := json.Marshal(form)
	if err != nil {
		panic(fmt.Sprintf("request: %v", err)) // there is nothing in it that does not encode
	}
	if string(text) == "{}" {
		return nil
	}
	return text
}

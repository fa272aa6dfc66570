package rpc

import (
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/forkid"
	"github.com/ethereum/go-ethereum/core/types"
	gethvm "github.com/ethereum/go-ethereum/core/vm"
	"github.com/ethereum/go-ethereum/params"
	"github.com/ethereum/go-ethereum/params/forks"
)

// This file is what eth_ says of the rules of the chain, and of what this node has of it.

// capabilities is the answer of eth_capabilities.
type capabilities struct {
	Head        capabilityHead `json:"head"`
	State       capability     `json:"state"`
	Tx          capability     `json:"tx"`
	Logs        capability     `json:"logs"`
	Receipts    capability     `json:"receipts"`
	Blocks      capability     `json:"blocks"`
	StateProofs capability     `json:"stateproofs"`
}

type capabilityHead struct {
	Number hexutil.Uint64 `json:"number"`
	Hash   common.Hash    `json:"hash"`
}

// capability says from which block on this node has something.
type capability struct {
	Disabled       bool            `json:"disabled"`
	OldestBlock    hexutil.Uint64  `json:"oldestBlock"`
	DeleteStrategy *deleteStrategy `json:"deleteStrategy,omitempty"` // absent: nothing is deleted
}

// deleteStrategy says how old data goes away.
type deleteStrategy struct {
	Type            string         `json:"type"` // "window": only the newest blocks' is kept
	RetentionBlocks hexutil.Uint64 `json:"retentionBlocks"`
}

func keptBlocks(oldest, window uint64) capability {
	c := capability{OldestBlock: hexutil.Uint64(oldest)}
	if window > 0 {
		c.DeleteStrategy = &deleteStrategy{"window", hexutil.Uint64(window)}
	}
	return c
}

// Capabilities says which blocks this node can answer questions about. Blocks, receipts and logs are never deleted; states may be, and
// begin with the snapshot on a node that began with one.
func (api *chainAPI) Capabilities() capabilities {
	head, all := api.backend.CurrentHeader(), keptBlocks(0, 0)
	states, proofs := api.backend.StateRetention()
	return capabilities{
		Head:        capabilityHead{hexutil.Uint64(head.Number.Uint64()), head.Hash()},
		State:       keptBlocks(api.backend.OldestState(), states),
		Tx:          all,
		Logs:        all,
		Receipts:    all,
		Blocks:      all,
		StateProofs: keptBlocks(api.backend.OldestProof(), proofs),
	}
}

// Coinbase is who gets the tips.
func (api *chainAPI) Coinbase() common.Address { return api.backend.CurrentHeader().Coinbase }

// chainRules is the answer of eth_config (EIP-7910): the rules that hold, the next ones, and the last ones that are known.
type chainRules struct {
	Current *forkRules `json:"current"`
	Next    *forkRules `json:"next"`
	Last    *forkRules `json:"last"`
}

// forkRules are the rules from one fork on.
type forkRules struct {
	ActivationTime  uint64                    `json:"activationTime"` // 0: genesis
	BlobSchedule    *params.BlobConfig        `json:"blobSchedule"`
	ChainID         *hexutil.Big              `json:"chainId"`
	ForkID          hexutil.Bytes             `json:"forkId"` // FORK_HASH of EIP-6122
	Precompiles     map[string]common.Address `json:"precompiles"`
	SystemContracts map[string]common.Address `json:"systemContracts"`
}

// Config returns the rules of the chain.
func (api *chainAPI) Config() chainRules {
	config, now := api.backend.ChainConfig(), api.backend.CurrentHeader().Time
	current, last := config.LatestFork(now), config.LatestFork(^uint64(0))
	rules := chainRules{Current: api.rulesOf(current)}
	for next := current + 1; next <= last && rules.Next == nil; next++ {
		rules.Next = api.rulesOf(next)
	}
	if rules.Next != nil {
		rules.Last = api.rulesOf(last)
	}
	return rules
}

// rulesOf returns nil for a fork that the chain does not have.
func (n *node) rulesOf(fork forks.Fork) *forkRules {
	config, genesis := n.backend.ChainConfig(), n.backend.HeaderByNumber(0)
	at := config.Timestamp(fork)
	if at == nil || genesis == nil {
		return nil
	}
	id := forkid.NewID(config, types.NewBlockWithHeader(genesis), ^uint64(0), *at).Hash
	rules := &forkRules{
		ActivationTime:  *at,
		BlobSchedule:    config.BlobConfig(fork),
		ChainID:         (*hexutil.Big)(config.ChainID),
		ForkID:          id[:],
		Precompiles:     make(map[string]common.Address),
		SystemContracts: config.ActiveSystemContracts(*at),
	}
	if genesis.Time >= *at {
		rules.ActivationTime = 0
	}
	for address, contract := range gethvm.ActivePrecompiledContracts(config.Rules(config.LondonBlock, true, *at)) {
		rules.Precompiles[contract.Name()] = address
	}
	return rules
}

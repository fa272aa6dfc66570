package rpc

import (
	"context"
	"fmt"
	"runtime"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/crypto"

	"ledgerd/consensus"
)

// web3API is the web3_ namespace.
type web3API struct{ *node }

// ClientVersion has go-ethereum's form: name/version/platform/runtime.
func (api *web3API) ClientVersion() string { return api.clientVersion() }

func (n *node) clientVersion() string {
	return fmt.Sprintf("ledgerd/%s/%s-%s/%s", n.opts.Version, runtime.GOOS, runtime.GOARCH, runtime.Version())
}

// Sha3 is Keccak-256.
func (api *web3API) Sha3(input hexutil.Bytes) common.Hash { return crypto.Keccak256Hash(input) }

// netAPI is the net_ namespace.
type netAPI struct{ *node }

// Version is the network id, in decimal. Wallets compare it with the chain id, so it is that.
func (api *netAPI) Version() string { return api.backend.ChainConfig().ChainID.String() }

// Listening is true: a node that answers is up.
func (api *netAPI) Listening() bool { return true }

// PeerCount counts the nodes this one is connected to.
func (api *netAPI) PeerCount() hexutil.Uint { return hexutil.Uint(len(api.opts.Network.Peers())) }

// chainAPI is what eth_ says of the chain as a whole.
type chainAPI struct{ *node }

// ChainId is the chain id of EIP-155. (The name makes it eth_chainId.)
func (api *chainAPI) ChainId() *hexutil.Big { return (*hexutil.Big)(api.backend.ChainConfig().ChainID) }

// BlockNumber is the number of the head.
func (api *chainAPI) BlockNumber() hexutil.Uint64 {
	return hexutil.Uint64(api.backend.CurrentHeader().Number.Uint64())
}

// syncProgress is the answer of eth_syncing of a node that is behind.
type syncProgress struct {
	StartingBlock hexutil.Uint64 `json:"startingBlock"`
	CurrentBlock  hexutil.Uint64 `json:"currentBlock"`
	HighestBlock  hexutil.Uint64 `json:"highestBlock"` // at most: not every log entry makes a block
}

// Syncing is false, or how far the node has come in catching up with the log.
func (api *chainAPI) Syncing(ctx context.Context) (any, error) {
	progress, err := api.syncProgress(ctx)
	if err != nil || progress == nil {
		return false, err
	}
	return progress, nil
}

// syncProgress returns nil for a node that is not behind.
func (n *node) syncProgress(ctx context.Context) (*syncProgress, error) {
	behind, err := n.behind(ctx)
	if err != nil || behind <= n.opts.SyncingAfter {
		return nil, err
	}
	current := n.backend.CurrentHeader().Number.Uint64()
	return &syncProgress{hexutil.Uint64(n.started), hexutil.Uint64(current), hexutil.Uint64(current + behind)}, nil
}

// behind counts the entries that this node knows of and has not executed.
func (n *node) behind(ctx context.Context) (uint64, error) {
	if n.log == nil {
		return 0, nil
	}
	tail, err := n.log.Tail(ctx, consensus.Fast)
	if err != nil {
		return 0, logError(err)
	}
	if applied := n.backend.Applied(); tail > applied+1 {
		return uint64(tail - 1 - applied), nil
	}
	return 0, nil
}

func (n *node) caughtUp(ctx context.Context) error {
	behind, err := n.behind(ctx)
	if err != nil {
		return err
	}
	if behind > n.opts.SyncingAfter {
		return fmt.Errorf("catching up: %d log entries behind", behind)
	}
	return nil
}

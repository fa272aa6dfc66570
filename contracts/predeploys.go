package contracts

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"math/big"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/params"
)

// Where tools look for the contracts that no EIP asks for. Both addresses follow from a deployment transaction that is
// the same on every chain.
var (
	// DeterministicProxyAddress puts initcode at an address that depends on the initcode and a salt alone: its call
	// data is salt ++ initcode (EIP-7997). Foundry's and Hardhat's deterministic deployments use it.
	DeterministicProxyAddress = params.DeterministicFactoryAddress
	// Multicall3Address is where viem, ethers' plugins and wallets batch calls.
	Multicall3Address = common.HexToAddress("0xcA11bde05977b3631167028862bE2a173976CA11")
)

// Predeploys returns the accounts that every genesis block has, with an open Permissions contract. The caller owns the
// map, and replaces the entry at PermissionsAddress with Permissions.Account to restrict the ledger. The code slices are
// shared: they must not be written to.
//
// As on the mainnet each account has nonce 1, so that it is not empty (EIP-161) and so that nothing can be created on
// top of it (EIP-684). Storage is empty: the request queues of EIP-7002 and EIP-7251 are open from the first block.
//
// There is no deposit contract (EIP-6110) among them; the chain's config should name no address for one.
func Predeploys() types.GenesisAlloc {
	// Listed one by one rather than taken from core.SystemContractAllocs, which follows forks later than the one
	// this ledger runs: a new version of a library must not change what a new network starts from.
	return types.GenesisAlloc{
		PermissionsAddress:               Permissions{}.Account(),
		params.BeaconRootsAddress:        predeploy(params.BeaconRootsCode, nil),
		params.HistoryStorageAddress:     predeploy(params.HistoryStorageCode, nil),
		params.WithdrawalQueueAddress:    predeploy(params.WithdrawalQueueCode, nil),
		params.ConsolidationQueueAddress: predeploy(params.ConsolidationQueueCode, nil),
		DeterministicProxyAddress:        predeploy(params.DeterministicFactoryCode, nil),
		Multicall3Address:                predeploy(multicall3Code(), nil),
	}
}

func predeploy(code []byte, storage map[common.Hash]common.Hash) types.Account {
	return types.Account{Nonce: 1, Balance: new(big.Int), Code: code, Storage: storage}
}

func word(n uint64) common.Hash {
	return common.BigToHash(new(big.Int).SetUint64(n))
}

//go:embed artifacts/Permissions.json
var permissionsArtifact []byte

// permissionsCode returns the runtime code. The contract has no constructor and no immutables, so the compiler's
// output is ready for a genesis block.
func permissionsCode() []byte {
	var artifact struct {
		DeployedBytecode hexutil.Bytes `json:"deployedBytecode"`
	}
	if err := json.Unmarshal(permissionsArtifact, &artifact); err != nil {
		panic(fmt.Sprintf("contracts: embedded artifact of Permissions: %v", err))
	}
	return artifact.DeployedBytecode
}

//go:embed predeploys/multicall3.hex
var multicall3Hex []byte

// multicall3Code returns the runtime code as it is on the mainnet; predeploys/NOTICE.md tells its origin.
func multicall3Code() []byte {
	return common.Hex2Bytes(string(bytes.TrimSpace(multicall3Hex)))
}

package rpc

import "github.com/ethereum/go-ethereum/common"

// Explorer is what the namespaces debug, trace and ots ask of the ledger beside the rest of Backend.
type Explorer interface {
	// Code returns the contract code with a hash, nil if no contract has it.
	Code(hash common.Hash) []byte
}

package vm

import (
	"errors"
	"fmt"

	"github.com/ethereum/go-ethereum/core/types"
)

// MaxTransactionBytes is the size of the largest raw transaction that is decoded, the limit of Ethereum's public
// pools. EIP-7825's gas cap would allow about 400 KiB of calldata.
const MaxTransactionBytes = 128 * 1024

var (
	// ErrBlobTransaction: type 3 (EIP-4844). A ledger keeps no blobs, so it never takes one.
	ErrBlobTransaction = errors.New("blob transactions are not supported")
	// ErrTransactionTooLarge: more than MaxTransactionBytes.
	ErrTransactionTooLarge = errors.New("transaction too large")
	// ErrMalformedTransaction: not the canonical encoding of a transaction.
	ErrMalformedTransaction = errors.New("malformed transaction")
)

// DecodeTransaction decodes the canonical encoding of a transaction (EIP-2718): type 0 as a bare RLP list, types 1
// (EIP-2930), 2 (EIP-1559) and 4 (EIP-7702) with their type byte in front. The result does not alias raw and encodes
// to raw again, so a transaction has one encoding and one hash.
//
// Errors are ErrBlobTransaction, ErrTransactionTooLarge, types.ErrTxTypeNotSupported for a type of the future, or
// ErrMalformedTransaction. The signature is not looked at: recovering the sender is what costs, and it is done where
// it can be done in parallel. A legacy transaction without replay protection (before EIP-155) decodes and executes,
// since keyless deployments depend on it; whether a node takes one by RPC is RPC's decision.
func DecodeTransaction(raw []byte) (*types.Transaction, error) {
	switch {
	case len(raw) == 0:
		return nil, fmt.Errorf("%w: empty", ErrMalformedTransaction)
	case len(raw) > MaxTransactionBytes:
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrTransactionTooLarge, len(raw), MaxTransactionBytes)
	case raw[0] == types.BlobTxType:
		return nil, ErrBlobTransaction
	}
	tx := new(types.Transaction)
	if err := tx.UnmarshalBinary(raw); err != nil {
		if errors.Is(err, types.ErrTxTypeNotSupported) {
			return nil, fmt.Errorf("%w: type %#02x", types.ErrTxTypeNotSupported, raw[0])
		}
		return nil, fmt.Errorf("%w: %w", ErrMalformedTransaction, err)
	}
	return tx, nil
}

package rpc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math/big"
	"slices"

	"github.com/ethereum/go-ethereum/accounts"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/signer/core/apitypes"
)

// This file is the methods that sign with Options.KeyStore. Without one they know no account.

// Accounts returns the accounts that the node signs for.
func (api *submitAPI) Accounts() []common.Address {
	if api.opts.KeyStore == nil {
		return []common.Address{}
	}
	return notNil(api.opts.KeyStore.Accounts())
}

func (api *submitAPI) known(account common.Address) bool {
	return api.opts.KeyStore != nil && slices.Contains(api.opts.KeyStore.Accounts(), account)
}

// signHash returns r, s, v with v in {0, 1}.
func (api *submitAPI) signHash(account common.Address, hash []byte) ([]byte, error) {
	if api.opts.KeyStore == nil {
		return nil, ErrUnknownAccount
	}
	return api.opts.KeyStore.Sign(account, hash)
}

// signMessage returns r, s, v with v in {27, 28}.
func (api *submitAPI) signMessage(account common.Address, hash []byte) (hexutil.Bytes, error) {
	signature, err := api.signHash(account, hash)
	if err != nil {
		return nil, err
	}
	signature[64] += 27
	return signature, nil
}

// Sign signs a message in the form of EIP-191, version 0x45.
func (api *submitAPI) Sign(account common.Address, message hexutil.Bytes) (hexutil.Bytes, error) {
	return api.signMessage(account, accounts.TextHash(message))
}

// typedData is EIP-712 data as an object, or as a string that holds one, which is what ethers sends.
type typedData apitypes.TypedData

func (d *typedData) UnmarshalJSON(b []byte) error {
	var inString string
	if json.Unmarshal(b, &inString) == nil {
		b = []byte(inString)
	}
	return json.Unmarshal(b, (*apitypes.TypedData)(d))
}

// SignTypedData_v4 signs typed data (EIP-712). The name makes it eth_signTypedData_v4.
func (api *submitAPI) SignTypedData_v4(account common.Address, data typedData) (hexutil.Bytes, error) {
	hash, _, err := apitypes.TypedDataAndHash(apitypes.TypedData(data))
	if err != nil {
		return nil, invalidParams("%v", err)
	}
	return api.signMessage(account, hash)
}

// SendTransaction fills in what is missing, signs and submits.
func (api *submitAPI) SendTransaction(ctx context.Context, args callArgs) (common.Hash, error) {
	if !api.known(args.from()) {
		return common.Hash{}, ErrUnknownAccount
	}
	if args.Nonce == nil {
		api.signing.Lock()
		defer api.signing.Unlock()
	}
	tx, err := api.fill(ctx, &args)
	if err != nil {
		return common.Hash{}, err
	}
	signed, err := api.signTransaction(args.from(), tx)
	if err != nil {
		return common.Hash{}, err
	}
	return api.submit(signed)
}

// encodedTransaction is a transaction with its encoding.
type encodedTransaction struct {
	Raw hexutil.Bytes `json:"raw"`
	Tx  *transaction  `json:"tx"`
}

func (n *node) encoded(tx *types.Transaction, from common.Address) (*encodedTransaction, error) {
	raw, err := tx.MarshalBinary()
	if err != nil {
		return nil, err
	}
	form := newTransaction(tx, n.signer, nil)
	form.From = from // known even if it is not signed
	return &encodedTransaction{raw, form}, nil
}

// SignTransaction signs without submitting. Gas, fees and nonce are the caller's to give.
func (api *submitAPI) SignTransaction(ctx context.Context, args callArgs) (*encodedTransaction, error) {
	switch {
	case args.Gas == nil:
		return nil, errors.New("gas not specified")
	case args.GasPrice == nil && (args.MaxPriorityFeePerGas == nil || args.MaxFeePerGas == nil):
		return nil, errors.New("missing gasPrice or maxFeePerGas/maxPriorityFeePerGas")
	case args.Nonce == nil:
		return nil, errors.New("nonce not specified")
	case !api.known(args.from()):
		return nil, ErrUnknownAccount
	}
	tx, err := api.fill(ctx, &args)
	if err != nil {
		return nil, err
	}
	signed, err := api.signTransaction(args.from(), tx)
	if err != nil {
		return nil, err
	}
	return api.encoded(signed, args.from())
}

// FillTransaction fills in what is missing and returns the transaction unsigned.
func (api *submitAPI) FillTransaction(ctx context.Context, args callArgs) (*encodedTransaction, error) {
	tx, err := api.fill(ctx, &args)
	if err != nil {
		return nil, err
	}
	return api.encoded(tx, args.from())
}

func (api *submitAPI) signTransaction(from common.Address, tx *types.Transaction) (*types.Transaction, error) {
	hash := api.signer.Hash(tx)
	signature, err := api.signHash(from, hash[:])
	if err != nil {
		return nil, err
	}
	return tx.WithSignature(api.signer, signature)
}

// fill makes a transaction of args: the next nonce of the pool, an estimate for the gas, no tip and twice the base fee as the
// cap, so that it outlives a change of the base fee.
func (n *node) fill(ctx context.Context, args *callArgs) (*types.Transaction, error) {
	chainID := n.backend.ChainConfig().ChainID
	if err := args.check((*hexutil.Big)(chainID)); err != nil {
		return nil, err
	}
	if err := args.checkTransaction(); err != nil {
		return nil, err
	}
	if args.GasPrice == nil {
		if err := n.fillFees(args); err != nil {
			return nil, err
		}
	}
	if args.Value == nil {
		args.Value = new(hexutil.Big)
	}
	if args.Nonce == nil {
		nonce := hexutil.Uint64(n.pool.Nonce(args.from()))
		args.Nonce = &nonce
	}
	if args.Gas == nil {
		gas, err := n.estimate(ctx, args, nil, nil, nil)
		if err != nil {
			return nil, err
		}
		args.Gas = (*hexutil.Uint64)(&gas)
	}
	msg := args.message()
	return msg.Transaction(chainID, uint64(*args.Nonce), uint64(*args.Gas)), nil
}

// fillFees completes the fees of args, which have no gas price.
func (n *node) fillFees(args *callArgs) error {
	if args.MaxPriorityFeePerGas == nil {
		args.MaxPriorityFeePerGas = new(hexutil.Big)
	}
	if args.MaxFeePerGas == nil {
		twice := new(big.Int).Lsh(n.backend.BaseFee(), 1)
		args.MaxFeePerGas = (*hexutil.Big)(twice.Add(twice, args.MaxPriorityFeePerGas.ToInt()))
	}
	if tip, most := args.MaxPriorityFeePerGas.ToInt(), args.MaxFeePerGas.ToInt(); most.Cmp(tip) < 0 {
		return invalidParams("maxFeePerGas (%v) < maxPriorityFeePerGas (%v)", most, tip)
	}
	return nil
}

// checkTransaction finds what may be in a call but not in a transaction.
func (a *callArgs) checkTransaction() error {
	switch {
	case a.BlobVersionedHashes != nil || a.MaxFeePerBlobGas != nil:
		return errors.New("blob transactions are not supported")
	case a.Data != nil && a.Input != nil && !bytes.Equal(*a.Data, *a.Input):
		return errors.New(`both "data" and "input" are set and not equal. Please use "input" to pass transaction call data`)
	case a.To == nil && len(a.input()) == 0:
		return errors.New("contract creation without any data provided")
	case a.To == nil && a.AuthorizationList != nil:
		return errors.New(`authorizationList provided for contract creation, but "to" field is missing`)
	case a.GasPrice != nil && a.AuthorizationList != nil:
		return errors.New("both gasPrice and authorizationList specified")
	}
	return nil
}

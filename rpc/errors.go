package rpc

import (
	"errors"
	"fmt"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"ledgerd/consensus"
)

// The error codes of the methods of this package, beside 3 for a reverted execution, which vm.RevertError brings along.
// An error without a code is -32000. go-ethereum's server adds -32700 (not
// JSON), -32600 (not a request), -32601 (no such method), -32602 (wrong parameters), -32002 (time is up), -32003 (answer
// too large) and -32603 (a panic).
const (
	codeSyncTimeout   = 4      // EIP-7966: not included in time; data holds the transaction hash
	codePruned        = 4444   // it was here, and this node has removed it
	codeNotFound      = -32001 // EIP-1474: resource not found
	codeLimitExceeded = -32005 // EIP-1474: the request passes a limit
	codeDefault       = -32000 // of an error that has data and no code of its own
	codeInvalidParams = -32602
	codeInternal      = -32603

	// No access lists of whole blocks (EIP-7928) before the fork that brings them.
	codeNoBlockAccessList = 4445
)

// The codes of eth_simulateV1.
const (
	codeTransactionRejected = -32003 // EIP-1474
	codeExecutionFailed     = -32015 // of one call: the EVM stopped it, but for a REVERT
	codeExecutionTimeout    = -32016
	codeNonceTooLow         = -38010
	codeNonceTooHigh        = -38011
	codeFeeCapTooLow        = -38012
	codeIntrinsicGas        = -38013
	codeInsufficientFunds   = -38014
	codeBlockGasLimit       = -38015
	codeNumberOrder         = -38020
	codeTimeOrder           = -38021
	codeSenderNotEOA        = -38024
	codeInitCodeTooLarge    = -38025
	codeSimulationLimit     = -38026
)

// ErrUnknownAccount: the node has no key for the account. The text is go-ethereum's.
var ErrUnknownAccount = errors.New("unknown account")

// ErrReconfiguring: this node is about to bring another request through, and tries one at a time.
var ErrReconfiguring = errors.New("another reconfiguration is under way on this node")

// The texts are go-ethereum's, which tools compare.
var (
	errHeaderNotFound       = errors.New("header not found")
	errHeaderOfHashNotFound = errors.New("header for hash not found")
	errUnknownBlock         = errors.New("unknown block")
	errFilterNotFound       = errors.New("filter not found")
	errInvalidBlockRange    = &codedError{code: codeInvalidParams, message: "invalid block range params"}
	errRangeIntoFuture      = &codedError{code: codeInvalidParams, message: "block range extends beyond current head block"}
	errPendingLogs          = &codedError{code: codeInvalidParams, message: "pending logs are not supported"}
	errNoBlockAccessList    = &codedError{code: codeNoBlockAccessList, message: "Block access list not available for pre-Amsterdam blocks"}
	errTooManyCriteria      = &codedError{code: codeInvalidParams, message: "exceed max addresses or topics per search position"}
	errStopping             = errors.New("the node is stopping")
)

// codedError is an error with the code and the data that a client sees.
type codedError struct {
	code    int
	message string
	data    any
}

func (e *codedError) Error() string  { return e.message }
func (e *codedError) ErrorCode() int { return e.code }
func (e *codedError) ErrorData() any { return e.data }

func invalidParams(format string, args ...any) error {
	return &codedError{code: codeInvalidParams, message: fmt.Sprintf(format, args...)}
}

func limitExceeded(format string, args ...any) error {
	return &codedError{code: codeLimitExceeded, message: fmt.Sprintf(format, args...)}
}

func syncTimeoutError(hash common.Hash, timeout time.Duration) error {
	return &codedError{
		code:    codeSyncTimeout,
		message: fmt.Sprintf("The transaction was added to the transaction pool but wasn't processed in %v", timeout),
		data:    hash.Hex(),
	}
}

// logError gives the shared log's errors their codes.
func logError(err error) error {
	code := 0
	switch {
	case err == nil:
		return nil
	case errors.Is(err, consensus.ErrTrimmed):
		code = codePruned
	case errors.Is(err, consensus.ErrUnwritten):
		code = codeNotFound
	case errors.Is(err, consensus.ErrInvalid):
		code = codeInvalidParams
	default:
		return err
	}
	return &codedError{code: code, message: err.Error()}
}

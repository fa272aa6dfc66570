package txpool

import (
	"errors"
	"fmt"

	"github.com/ethereum/go-ethereum/core"
	"github.com/ethereum/go-ethereum/core/txpool"

	"ledgerd/vm"
)

// Errors of Add beside those of go-ethereum's core and core/txpool, which it returns in their own words, since wallets and
// libraries match the text. Some of these are also reasons in a Status.
var (
	// ErrPoolFull: there is no room, and nothing queued that could make some.
	ErrPoolFull = errors.New("txpool is full")
	// ErrReplaceInFlight: the transaction to be replaced is being ordered, which cannot be called back. It is also
	// txpool.ErrReplaceUnderpriced, whose text libraries know; a higher price would not help, waiting does.
	ErrReplaceInFlight = fmt.Errorf("%w: the pooled transaction is being ordered", txpool.ErrReplaceUnderpriced)
	// ErrClosed: the pool has been closed.
	ErrClosed = errors.New("txpool is closed")

	// ErrReplaced: a transaction with the same nonce and a higher price took its place. Only a reason.
	ErrReplaced = errors.New("replaced")
	// ErrEvicted: it was queued and made room for another one. Only a reason.
	ErrEvicted = errors.New("evicted from the full pool")
	// ErrExpired: it was queued for longer than the TTL. Only a reason.
	ErrExpired = errors.New("queued for too long")
)

// labels name errors in metrics, the more particular first. The set is fixed: a label never holds text of a caller.
func label(err error) string {
	for _, l := range [...]struct {
		err  error
		name string
	}{
		{txpool.ErrAlreadyKnown, "already_known"},
		{core.ErrNonceTooLow, "nonce_too_low"},
		{core.ErrNonceMax, "nonce_max"},
		{ErrReplaceInFlight, "replace_in_flight"},
		{txpool.ErrReplaceUnderpriced, "replace_underpriced"},
		{core.ErrInsufficientFunds, "insufficient_funds"},
		{vm.ErrSendNotPermitted, "send_not_permitted"},
		{vm.ErrDeployNotPermitted, "deploy_not_permitted"},
		{ErrPoolFull, "pool_full"},
		{txpool.ErrAccountLimitExceeded, "account_limit"},
		{core.ErrFeeCapTooLow, "fee_cap_too_low"},
		{txpool.ErrTxGasPriceTooLow, "tip_too_low"},
		{txpool.ErrInvalidSender, "invalid_sender"},
		{txpool.ErrGasLimit, "block_gas_limit"},
		{core.ErrGasLimitTooHigh, "transaction_gas_limit"},
		{core.ErrIntrinsicGas, "intrinsic_gas"},
		{core.ErrFloorDataGas, "floor_data_gas"},
		{txpool.ErrOversizedData, "oversized"},
		{core.ErrTxTypeNotSupported, "type"},
		{ErrReplaced, "replaced"},
		{ErrEvicted, "evicted"},
		{ErrExpired, "expired"},
		{ErrClosed, "closed"},
	} {
		if errors.Is(err, l.err) {
			return l.name
		}
	}
	return "other"
}

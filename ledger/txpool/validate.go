package txpool

import (
	"fmt"
	"math/big"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core"
	"github.com/ethereum/go-ethereum/core/txpool"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/holiman/uint256"

	"ledgerd/contracts"
	"ledgerd/vm"
)

// MaxTransactionBytes is how long the encoding of a transaction may be: go-ethereum's limit, which tools are used to.
const MaxTransactionBytes = 128 << 10

// acceptedTypes are the EIP-2718 types that the ledger executes. Blobs are not among them: there is nobody to keep them.
const acceptedTypes = 1<<types.LegacyTxType | 1<<types.AccessListTxType | 1<<types.DynamicFeeTxType | 1<<types.SetCodeTxType

// entry is one pooled transaction. All but announced is fixed.
type entry struct {
	tx    *types.Transaction
	hash  common.Hash
	from  common.Address
	nonce uint64
	gas   uint64
	size  int         // of the encoding, in bytes
	cost  uint256.Int // most that it can take from the sender: gas * fee cap + value
	huge  bool        // cost does not fit into cost
	added time.Time

	announced bool // to the subscribers, which happens when it is executable for the first time
}

// newEntry makes the checks that need no state, and recovers the sender: nearly all of the time that Add takes.
func (p *Pool) newEntry(tx *types.Transaction, hash common.Hash, head *types.Header) (*entry, error) {
	if tx.Type() == types.BlobTxType {
		return nil, fmt.Errorf("%w: blob transactions (type 3) cannot be sent to this chain", core.ErrTxTypeNotSupported)
	}
	if err := txpool.ValidateTransaction(tx, head, p.signer, &p.rules); err != nil {
		return nil, err
	}
	from, err := types.Sender(p.signer, tx) // cached in tx by the validation
	if err != nil {
		return nil, fmt.Errorf("%w: %v", txpool.ErrInvalidSender, err)
	}
	if err := checkFeeCap(tx, from, head.BaseFee); err != nil {
		return nil, err
	}
	e := &entry{tx: tx, hash: hash, from: from, nonce: tx.Nonce(), gas: tx.Gas(), size: int(tx.Size()), added: p.opts.Now()}
	e.huge = e.cost.SetFromBig(tx.Cost())
	return e, nil
}

// checkFeeCap refuses what cannot be executed for long: unlike elsewhere the base fee is a parameter, so waiting will not make it fall.
func checkFeeCap(tx *types.Transaction, from common.Address, baseFee *big.Int) error {
	if baseFee == nil || tx.GasFeeCapIntCmp(baseFee) >= 0 {
		return nil
	}
	return fmt.Errorf("%w: address %v, maxFeePerGas: %s, baseFee: %s", core.ErrFeeCapTooLow, from.Hex(), tx.GasFeeCap(), baseFee)
}

// fits tells whether a pooled transaction can still be executed under head, whose gas limit and base fee may have
// been changed by a reconfiguration since it was added.
func (e *entry) fits(head *types.Header) error {
	if e.gas > head.GasLimit {
		return txpool.ErrGasLimit
	}
	return checkFeeCap(e.tx, e.from, head.BaseFee)
}

// account is what the pool reads of a sender's state.
type account struct {
	nonce     uint64
	balance   uint256.Int
	maySend   bool
	mayDeploy bool
}

// readAccounts reads the accounts at addresses, in this order, at the head.
func (p *Pool) readAccounts(addresses ...common.Address) ([]account, error) {
	accounts := make([]account, len(addresses))
	err := p.chain.ReadState(func(st StateReader) error {
		restrictions := word(st, contracts.RestrictionsSlot)
		for i, address := range addresses {
			flags := contracts.FlagSend | contracts.FlagDeploy
			if restrictions != 0 {
				flags = word(st, contracts.PermissionsSlot(address))
			}
			accounts[i] = account{
				nonce:     st.GetNonce(address),
				balance:   *st.GetBalance(address),
				maySend:   restrictions&contracts.RestrictSend == 0 || flags&contracts.FlagSend != 0,
				mayDeploy: restrictions&contracts.RestrictDeploy == 0 || flags&contracts.FlagDeploy != 0,
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read sender's state: %w", err)
	}
	return accounts, nil
}

// word returns the low 64 bits of a slot of the Permissions contract.
func word(st StateReader, slot common.Hash) uint64 {
	value := st.GetState(contracts.PermissionsAddress, slot)
	return new(uint256.Int).SetBytes32(value[:]).Uint64()
}

// admit checks e against the state of its sender: permissions, nonce and funds. pooled is what the sender's other
// transactions cost, and old the one that e would replace, or nil.
func (e *entry) admit(a account, pooled *uint256.Int, old *entry) error {
	if !a.maySend {
		return fmt.Errorf("%w: address %v", vm.ErrSendNotPermitted, e.from.Hex())
	}
	if e.tx.To() == nil && !a.mayDeploy {
		return fmt.Errorf("%w: address %v", vm.ErrDeployNotPermitted, e.from.Hex())
	}
	if e.nonce < a.nonce {
		return usedNonce(a.nonce, e.nonce)
	}
	return e.afford(&a.balance, pooled, old)
}

func usedNonce(next, nonce uint64) error {
	return fmt.Errorf("%w: next nonce %v, tx nonce %v", core.ErrNonceTooLow, next, nonce)
}

// afford checks that balance covers e together with what else the sender has pooled. The words are go-ethereum's, which
// tells the three cases apart.
func (e *entry) afford(balance, pooled *uint256.Int, old *entry) error {
	if e.huge || balance.Lt(&e.cost) {
		have, cost := balance.ToBig(), e.tx.Cost()
		return fmt.Errorf("%w: balance %v, tx cost %v, overshot %v", core.ErrInsufficientFunds,
			have, cost, new(big.Int).Sub(cost, have))
	}
	var others, need uint256.Int
	others.Set(pooled)
	if old != nil {
		others.Sub(&others, &old.cost)
	}
	if _, overflow := need.AddOverflow(&others, &e.cost); !overflow && !balance.Lt(&need) {
		return nil
	}
	have, spent, cost := balance.ToBig(), pooled.ToBig(), e.tx.Cost()
	what := "tx cost"
	if old != nil {
		what, cost = "tx bumped", cost.Sub(cost, old.tx.Cost())
	}
	overshot := new(big.Int).Add(spent, cost)
	return fmt.Errorf("%w: balance %v, queued cost %v, %s %v, overshot %v", core.ErrInsufficientFunds,
		have, spent, what, cost, overshot.Sub(overshot, have))
}

// outbids tells whether tx may replace old: both its caps are higher, and by bump percent. At price 0 that asks for 1 wei.
func outbids(tx, old *types.Transaction, bump int) bool {
	if old.GasFeeCapCmp(tx) >= 0 || old.GasTipCapCmp(tx) >= 0 {
		return false
	}
	return !under(tx.GasFeeCap(), old.GasFeeCap(), bump) && !under(tx.GasTipCap(), old.GasTipCap(), bump)
}

// under tells whether price is below old raised by bump percent, rounded down.
func under(price, old *big.Int, bump int) bool {
	threshold := new(big.Int).Mul(old, big.NewInt(100+int64(bump)))
	return price.Cmp(threshold.Div(threshold, big.NewInt(100))) < 0
}

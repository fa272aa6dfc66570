package vm

import (
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core"
	"github.com/ethereum/go-ethereum/core/state"
	"github.com/ethereum/go-ethereum/core/types"
)

// A recorder is the state as the EVM sees it, and takes down with which accounts a transaction deals: those that it calls, creates, pays, delegates
// to or destroys in favour of, at whatever depth and also in what is reverted. The EVM makes an account warm (EIP-2929) before it does any of
// that, so it is enough to listen there; that EXTCODESIZE, EXTCODEHASH, EXTCODECOPY and BALANCE warm accounts as well makes the list a little
// longer. Accounts that are warm from the start are added by end, but for the precompiles.
//
// The alternative, a tracer, costs every opcode of every transaction a call; this costs one call for each account.
type recorder struct {
	*state.StateDB
	coinbase common.Address
	touched  []common.Address // of the running transaction; may hold an account more than once
}

func (r *recorder) begin() { r.touched = r.touched[:0] }

// end returns the accounts of a transaction that was included, each once, without its sender.
func (r *recorder) end(msg *core.Message, receipt *types.Receipt) []common.Address {
	if msg.To != nil {
		r.touched = append(r.touched, *msg.To)
	} else {
		r.touched = append(r.touched, receipt.ContractAddress)
	}
	for _, tuple := range msg.AccessList {
		r.touched = append(r.touched, tuple.Address)
	}
	return distinct(r.touched, msg.From)
}

// distinct returns list without repetitions and without one address. A transaction rarely has more than a few accounts.
func distinct(list []common.Address, without common.Address) []common.Address {
	const few = 16
	out := make([]common.Address, 0, len(list))
	if len(list) > few {
		known := map[common.Address]struct{}{without: {}}
		for _, a := range list {
			if _, ok := known[a]; !ok {
				known[a] = struct{}{}
				out = append(out, a)
			}
		}
		return out
	}
next:
	for _, a := range list {
		if a == without {
			continue
		}
		for _, b := range out {
			if a == b {
				continue next
			}
		}
		out = append(out, a)
	}
	return out
}

// AddAddressToAccessList is called by the EVM for an account that was cold.
func (r *recorder) AddAddressToAccessList(a common.Address) {
	r.touched = append(r.touched, a)
	r.StateDB.AddAddressToAccessList(a)
}

// AddressInAccessList is called by the EVM before it deals with an account. The coinbase is warm from the start (EIP-3651).
func (r *recorder) AddressInAccessList(a common.Address) bool {
	if a == r.coinbase {
		r.touched = append(r.touched, a)
	}
	return r.StateDB.AddressInAccessList(a)
}

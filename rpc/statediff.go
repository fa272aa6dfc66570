package rpc

import (
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
)

// prestateDiff is what prestateTracer gives in its diffMode. An account that is created is in Post alone, one that is destroyed in Pre alone, one that
// is changed in both: whole in Pre (of the storage what changes), and in Post what is new.
type prestateDiff struct {
	Pre  map[common.Address]prestateAccount `json:"pre"`
	Post map[common.Address]prestateAccount `json:"post"`
}

type prestateAccount struct {
	Balance *hexutil.Big                `json:"balance"`
	Code    *hexutil.Bytes              `json:"code"`
	Nonce   uint64                      `json:"nonce"`
	Storage map[common.Hash]common.Hash `json:"storage"`
}

// parityChange is what a transaction did to an account, in OpenEthereum's form: of each of its parts, and of each slot that changed, "=" (nothing),
// {"+": new}, {"-": old} or {"*": {"from": old, "to": new}}.
type parityChange struct {
	Balance any                 `json:"balance"`
	Code    any                 `json:"code"`
	Nonce   any                 `json:"nonce"`
	Storage map[common.Hash]any `json:"storage"`
}

const unchanged = "="

func born(v any) any { return map[string]any{"+": v} }
func died(v any) any { return map[string]any{"-": v} }
func changed(from, to any) any {
	return map[string]any{"*": map[string]any{"from": from, "to": to}}
}

// changes translates d.
func (d *prestateDiff) changes() map[common.Address]*parityChange {
	all := make(map[common.Address]*parityChange, len(d.Post))
	for address, post := range d.Post {
		if pre, existed := d.Pre[address]; existed {
			all[address] = changeOf(pre, post)
		} else if !post.empty() {
			all[address] = wholly(post, born)
		}
	}
	for address, pre := range d.Pre {
		if _, exists := d.Post[address]; !exists {
			all[address] = wholly(pre, died)
		}
	}
	return all
}

// wholly is the change of an account that was born or died.
func wholly(a prestateAccount, how func(any) any) *parityChange {
	c := &parityChange{how(a.balance()), how(a.code()), how(hexutil.Uint64(a.Nonce)), make(map[common.Hash]any, len(a.Storage))}
	for slot, value := range a.Storage {
		c.Storage[slot] = how(value)
	}
	return c
}

func changeOf(pre, post prestateAccount) *parityChange {
	c := &parityChange{unchanged, unchanged, unchanged, make(map[common.Hash]any)}
	if post.Balance != nil {
		c.Balance = changed(pre.balance(), post.balance())
	}
	if post.Code != nil {
		c.Code = changed(pre.code(), post.code())
	}
	if post.Nonce != 0 { // a nonce never becomes 0
		c.Nonce = changed(hexutil.Uint64(pre.Nonce), hexutil.Uint64(post.Nonce))
	}
	for _, slots := range []map[common.Hash]common.Hash{pre.Storage, post.Storage} {
		for slot := range slots {
			c.Storage[slot] = changed(pre.Storage[slot], post.Storage[slot]) // absent is zero
		}
	}
	return c
}

// empty is true for an account that was looked at and is not there: the tracer takes its code hash of zero for a change.
func (a *prestateAccount) empty() bool {
	return a.Balance == nil && a.Code == nil && a.Nonce == 0 && len(a.Storage) == 0
}

func (a *prestateAccount) balance() *hexutil.Big {
	if a.Balance == nil {
		return new(hexutil.Big)
	}
	return a.Balance
}

func (a *prestateAccount) code() hexutil.Bytes {
	if a.Code == nil {
		return hexutil.Bytes{}
	}
	return *a.Code
}

package ledger

import (
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/rawdb"
)

// Code returns the contract code with a hash, nil if no contract has it.
func (l *Ledger) Code(hash common.Hash) []byte { return rawdb.ReadCode(l.store.db, hash) }

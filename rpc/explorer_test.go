package rpc

import (
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/rawdb"
)

// What Explorer asks of a fakeChain.

func (c *fakeChain) Code(hash common.Hash) []byte { return rawdb.ReadCode(c.db, hash) }

package vm

import (
	"math/big"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/tracing"
	"github.com/ethereum/go-ethereum/core/types"
	gethvm "github.com/ethereum/go-ethereum/core/vm"
)

var (
	// transferTopic is the topic of the event Transfer(address,address,uint256).
	transferTopic = common.HexToHash("0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef")
	// etherAddress stands for ether where a token's address is asked for (ERC-7528).
	etherAddress = common.HexToAddress("0xEeeeeEeeeEeEeeEeEeEeeEEEeeeeEeeeeeeeEEeE")
)

// A logCollector gathers the logs of the transactions of one block that are traced with it, and with transfers one for each movement of
// ether. What a frame that is undone has logged is dropped, and the indices of the block have no gaps.
//
//	logs    a a b b b c          one list for all open frames, the outermost first
//	marks   0   2     5          where each frame began: undoing a frame cuts the list there
type logCollector struct {
	transfers    bool
	number, time uint64

	tx        common.Hash
	txIndex   int
	logs      []*types.Log
	marks     []int
	collected uint // logs of the transactions before
}

// hooks are for the EVM and for the state that it runs on.
func (c *logCollector) hooks() *tracing.Hooks {
	return &tracing.Hooks{OnEnter: c.enter, OnExit: c.exit, OnLog: c.log}
}

// begin comes before each transaction.
func (c *logCollector) begin(tx common.Hash, index int) {
	c.tx, c.txIndex, c.logs, c.marks = tx, index, nil, nil
}

// end returns the logs of the transaction. They have no block hash.
func (c *logCollector) end() []*types.Log {
	c.collected += uint(len(c.logs))
	return c.logs
}

func (c *logCollector) enter(_ int, kind byte, from, to common.Address, _ []byte, _ uint64, value *big.Int) {
	c.marks = append(c.marks, len(c.logs))
	if op := gethvm.OpCode(kind); !c.transfers || op == gethvm.DELEGATECALL || op == gethvm.CALLCODE || value == nil || value.Sign() == 0 {
		return
	}
	c.add(&types.Log{
		Address: etherAddress,
		Topics:  []common.Hash{transferTopic, common.BytesToHash(from[:]), common.BytesToHash(to[:])},
		Data:    common.BigToHash(value).Bytes(),
	})
}

func (c *logCollector) exit(_ int, _ []byte, _ uint64, _ error, reverted bool) {
	last := len(c.marks) - 1
	if reverted {
		c.logs = c.logs[:c.marks[last]]
	}
	c.marks = c.marks[:last]
}

func (c *logCollector) log(l *types.Log) {
	c.add(&types.Log{Address: l.Address, Topics: l.Topics, Data: l.Data})
}

func (c *logCollector) add(l *types.Log) {
	l.BlockNumber, l.BlockTimestamp, l.TxHash, l.TxIndex = c.number, c.time, c.tx, uint(c.txIndex)
	l.Index = c.collected + uint(len(c.logs))
	c.logs = append(c.logs, l)
}

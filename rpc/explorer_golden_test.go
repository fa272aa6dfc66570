package rpc

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/crypto"
	gethrpc "github.com/ethereum/go-ethereum/rpc"
	"github.com/stretchr/testify/require"
)

// TestExplorerDialogue plays testdata/explorer: calls of trace_, ots_ and erigon_ on the blocks of tracedChain, and what comes back. Hashes, addresses and
// roots have names there, so that only what is meant shows.
func TestExplorerDialogue(t *testing.T) {
	n := startNode(t, Options{})
	blocks := tracedChain(n.fakeChain)
	c := n.dial(t, "http")
	var names []string // name, value, name, value …
	name := func(name string, value fmt.Stringer) {
		names = append(names, "$"+name, strings.ToLower(value.String()))
	}
	for i, b := range blocks {
		name(fmt.Sprintf("block%d", i+1), b.Hash())
		name(fmt.Sprintf("root%d", i+1), b.Root())
		name(fmt.Sprintf("txRoot%d", i+1), b.TxHash())
		name(fmt.Sprintf("receiptRoot%d", i+1), b.ReceiptHash())
		for j, tx := range b.Transactions() {
			name(fmt.Sprintf("tx%d.%d", i+1, j), tx.Hash())
		}
	}
	name("genesis", blocks[0].ParentHash())
	for who, a := range map[string]common.Address{
		"alice": alice.address, "bob": bob.address, "pauper": pauper.address, "delegator": delegator.address, "emitter": emitter, "coinbase": coinbase,
		"everything": crypto.CreateAddress(alice.address, 6), "created": crypto.CreateAddress(alice.address, 4),
		"failed": crypto.CreateAddress(alice.address, 9), "child": crypto.CreateAddress(crypto.CreateAddress(alice.address, 6), 2),
	} {
		name(who, a)
	}
	name("everythingCode", hexutil.Bytes(everything()))
	name("predeploy", common.HexToAddress("0xcA11bde05977b3631167028862bE2a173976CA11"))
	var values []string
	for i := 0; i < len(names); i += 2 {
		values = append(values, names[i+1], names[i])
	}
	datadriven.RunTest(t, "testdata/explorer", func(t *testing.T, d *datadriven.TestData) string {
		require.Equal(t, "call", d.Cmd)
		method, args, _ := strings.Cut(d.Input, " ")
		var params []any
		require.NoError(t, json.Unmarshal([]byte(strings.NewReplacer(names...).Replace(args)), &params), d.Pos)
		var result json.RawMessage
		if err := c.Call(&result, method, params...); err != nil {
			return fmt.Sprintf("error %d: %s\n", err.(gethrpc.Error).ErrorCode(), strings.NewReplacer(values...).Replace(err.Error()))
		}
		var out bytes.Buffer
		require.NoError(t, json.Indent(&out, result, "", " "))
		return strings.NewReplacer(values...).Replace(out.String()) + "\n"
	})
}

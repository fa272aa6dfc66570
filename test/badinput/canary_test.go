package badinput

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/stretchr/testify/require"

	"ledgerd/test/internal/process"
)

// binary is the program under test, built once.
var binary string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "badinput")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		if binary, err = process.Build(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}())
}

var signer = types.LatestSignerForChainID(big.NewInt(process.ChainID))

// Keys of `ledgerd dev`, which everybody knows. One is the canary's, and one sends what the tests send.
var (
	canaryKey = key("2a871d0798f97d79848a013d4936a73bf4cc922c825d33c1cf7073dff6d409c6")
	senderKey = key("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80")
)

func key(hex string) *ecdsa.PrivateKey {
	k, err := crypto.HexToECDSA(hex)
	if err != nil {
		panic(err)
	}
	return k
}

func addressOf(k *ecdsa.PrivateKey) common.Address { return crypto.PubkeyToAddress(k.PublicKey) }

// poor makes the key of an account that owns nothing.
func poor(name string) *ecdsa.PrivateKey {
	k, err := crypto.ToECDSA(crypto.Keccak256([]byte(name)))
	if err != nil {
		panic(err)
	}
	return k
}

// newHome returns the path of a home that does not exist yet.
func newHome(t *testing.T) string { return filepath.Join(t.TempDir(), "home") }

// encode gives the wire form of a signed transaction.
func encode(tx *types.Transaction) string {
	raw, err := tx.MarshalBinary()
	if err != nil {
		panic(err)
	}
	return hexutil.Encode(raw)
}

// transfer is a legacy transfer of one wei without a fee.
func transfer(from *ecdsa.PrivateKey, nonce uint64, to common.Address, data ...byte) *types.Transaction {
	gas := uint64(21000 + 40*len(data)) // the floor of EIP-7623
	return types.MustSignNewTx(from, signer, &types.LegacyTx{Nonce: nonce, To: &to, Value: common.Big1, Gas: gas, GasPrice: new(big.Int), Data: data})
}

// submit sends a transaction and waits for its receipt.
func submit(n *process.Node, tx *types.Transaction) (*types.Receipt, error) {
	ctx, cancel := context.WithTimeout(context.Background(), process.Patience)
	defer cancel()
	var receipt *types.Receipt
	err := n.Client.Client().CallContext(ctx, &receipt, "eth_sendRawTransactionSync", encode(tx))
	return receipt, err
}

// A canary shows that a node lives and has forgotten nothing.
type canary struct {
	receipts []*types.Receipt // of its transfers, by nonce
}

var canarySink = common.HexToAddress("0xca0a1e")

// sing sends a transfer and checks the receipt and the sums. data makes it a transaction that can be found in a file.
func (c *canary) sing(t *testing.T, n *process.Node, data ...byte) {
	t.Helper()
	tx := transfer(canaryKey, uint64(len(c.receipts)), canarySink, data...)
	receipt, err := submit(n, tx)
	require.NoError(t, err, "a good transaction, number %d of the canary", len(c.receipts))
	require.Equal(t, tx.Hash(), receipt.TxHash)
	require.Equal(t, types.ReceiptStatusSuccessful, receipt.Status)
	c.receipts = append(c.receipts, receipt)
	balance, err := n.Client.BalanceAt(t.Context(), canarySink, nil)
	require.NoError(t, err)
	require.EqualValues(t, len(c.receipts), balance.Uint64(), "wei that the canary has sent")
}

// remembers checks that each receipt that the canary ever got is still true.
func (c *canary) remembers(t *testing.T, n *process.Node) {
	t.Helper()
	for i, want := range c.receipts {
		got, err := n.Client.TransactionReceipt(t.Context(), want.TxHash)
		require.NoError(t, err, "receipt of the canary's transfer %d, which was acknowledged", i)
		require.Equal(t, want.BlockHash, got.BlockHash, "block of the canary's transfer %d", i)
	}
	nonce, err := n.Client.NonceAt(t.Context(), addressOf(canaryKey), nil)
	require.NoError(t, err)
	require.EqualValues(t, len(c.receipts), nonce)
}

// answer is a JSON-RPC answer.
type answer struct {
	ID     json.RawMessage
	Result json.RawMessage
	Error  *struct {
		Code    int
		Message string
		Data    json.RawMessage
	}
}

// post sends a body and returns the status and the body of the answer.
func post(t *testing.T, n *process.Node, contentType, body string) (int, string) {
	t.Helper()
	client := http.Client{Timeout: process.Patience}
	got, err := client.Post(n.URL, contentType, strings.NewReader(body))
	require.NoError(t, err, "POST of %d bytes", len(body))
	defer got.Body.Close()
	text, err := io.ReadAll(got.Body)
	require.NoError(t, err)
	return got.StatusCode, string(text)
}

// call makes one request and returns its answer.
func call(t *testing.T, n *process.Node, method string, params ...any) answer {
	t.Helper()
	if params == nil {
		params = []any{}
	}
	body, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
	require.NoError(t, err)
	status, text := post(t, n, "application/json", string(body))
	require.Equal(t, http.StatusOK, status, "%s: %s", method, text)
	var a answer
	require.NoError(t, json.Unmarshal([]byte(text), &a), "%s answered %s", method, text)
	return a
}

// refused demands an error with this code and words in its message.
func (a answer) refused(t *testing.T, code int, words string) {
	t.Helper()
	require.NotNil(t, a.Error, "no error but %s; wanted %d %q", a.Result, code, words)
	require.Equal(t, code, a.Error.Code, a.Error.Message)
	require.Contains(t, a.Error.Message, words)
}

// eventually waits for a condition that another process brings about.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(process.Patience); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", process.Patience, what)
		}
	}
}

// noise is n bytes that no compression makes shorter, always the same for a seed.
func noise(seed string, n int) []byte {
	var b bytes.Buffer
	for h := crypto.Keccak256([]byte(seed)); b.Len() < n; h = crypto.Keccak256(h) {
		b.Write(h)
	}
	return b.Bytes()[:n]
}

// Package streams tests what a real node sends to those who listen: that nothing is missing, nothing comes twice, and everything comes in order.
package streams

import (
	"context"
	"crypto/ecdsa"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	gethrpc "github.com/ethereum/go-ethereum/rpc"
	"github.com/stretchr/testify/require"

	"ledgerd/test/internal/process"
)

var binary string

func TestMain(m *testing.M) {
	if path := os.Getenv(followerFile); path != "" {
		os.Exit(follow(path)) // this is the client that TestKilledClientMissesNothing kills
	}
	dir, err := os.MkdirTemp("", "ledgerd-streams-")
	if err == nil {
		binary, err = process.Build(dir)
	}
	code := 1
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	} else {
		code = m.Run()
	}
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// emitterCode makes a contract that emits the word it is called with as the topic of a log.
var emitterCode = common.FromHex("0x655f355f5fa1005f526006601af3")

// sender is the first account of the development mnemonic.
type sender struct {
	t       *testing.T
	client  *gethrpc.Client
	key     *ecdsa.PrivateKey
	signer  types.Signer
	nonce   uint64
	emitter common.Address
}

func newSender(t *testing.T, n *process.Node) *sender {
	t.Helper()
	key, err := crypto.HexToECDSA("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80")
	require.NoError(t, err)
	return &sender{t: t, client: n.Client.Client(), key: key, signer: types.LatestSignerForChainID(big.NewInt(process.ChainID))}
}

func (s *sender) sign(to *common.Address, gas uint64, data []byte) *types.Transaction {
	tx := types.MustSignNewTx(s.key, s.signer, &types.LegacyTx{Nonce: s.nonce, To: to, Gas: gas, GasPrice: new(big.Int), Data: data})
	s.nonce++
	return tx
}

// deploy makes the emitter, and waits until it is there.
func (s *sender) deploy() {
	s.t.Helper()
	s.emitter = crypto.CreateAddress(crypto.PubkeyToAddress(s.key.PublicKey), s.nonce)
	require.NoError(s.t, s.sync(s.sign(nil, 100_000, emitterCode)))
}

func (s *sender) sync(tx *types.Transaction) error {
	raw, err := tx.MarshalBinary()
	if err != nil {
		return err
	}
	var receipt struct{ Status hexutil.Uint64 }
	if err := s.client.Call(&receipt, "eth_sendRawTransactionSync", hexutil.Encode(raw)); err != nil {
		return err
	}
	if receipt.Status != 1 {
		return fmt.Errorf("transaction %v has failed", tx.Hash())
	}
	return nil
}

// batch sends n calls of the emitter, with the topics 0 to n-1, in one request, and waits for the last.
func (s *sender) batch(ctx context.Context, n int) error {
	calls := make([]gethrpc.BatchElem, n)
	for i := range calls {
		topic := common.BigToHash(big.NewInt(int64(i)))
		raw, err := s.sign(&s.emitter, 100_000, topic[:]).MarshalBinary()
		if err != nil {
			return err
		}
		calls[i] = gethrpc.BatchElem{Method: "eth_sendRawTransaction", Args: []any{hexutil.Encode(raw)}, Result: new(json.RawMessage)}
	}
	calls[n-1].Method = "eth_sendRawTransactionSync"
	if err := s.client.BatchCallContext(ctx, calls); err != nil {
		return err
	}
	var errs []error
	for _, c := range calls {
		errs = append(errs, c.Error)
	}
	return errors.Join(errs...)
}

// load sends batches until stop is called, which returns when the last is in the chain.
func (s *sender) load(n int) (stop func()) {
	ctx, cancel := context.WithCancel(s.t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			if err := s.batch(s.t.Context(), n); err != nil {
				s.t.Error(err)
				return
			}
		}
	})
	return sync.OnceFunc(func() { cancel(); wg.Wait() })
}

// within gives what a test waits for a bound.
func within(t *testing.T, d time.Duration) (context.Context, context.CancelFunc) {
	t.Helper()
	return context.WithTimeout(t.Context(), d)
}

package vm

import (
	"bytes"
	"math/big"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/params"
	"github.com/holiman/uint256"
	"github.com/stretchr/testify/require"
)

func encodeTx(t testing.TB, tx *types.Transaction) []byte {
	raw, err := tx.MarshalBinary()
	require.NoError(t, err)
	return raw
}

func TestDecodeTransaction(t *testing.T) {
	for _, tx := range typedTransactions(bob.addr) {
		raw := encodeTx(t, tx)
		got, err := DecodeTransaction(raw)
		require.NoError(t, err)
		require.Equal(t, tx.Hash(), got.Hash())
		require.Equal(t, tx.Type(), got.Type())

		// The caller may use its buffer again.
		want := bytes.Clone(raw)
		clear(raw)
		require.Equal(t, want, encodeTx(t, got))
	}
}

func TestDecodeTransactionErrors(t *testing.T) {
	legacy := encodeTx(t, alice.sign(&types.LegacyTx{To: &bob.addr, Gas: 21_000, GasPrice: gwei}))
	dynamic := encodeTx(t, alice.transfer(0, bob.addr))
	blob := encodeTx(t, alice.sign(&types.BlobTx{ChainID: uint256.NewInt(testChainID), BlobHashes: []common.Hash{{1}}}))
	wrapped, err := rlpString(dynamic)
	require.NoError(t, err)
	large := func(size int) []byte {
		tx := alice.sign(&types.DynamicFeeTx{ChainID: big.NewInt(testChainID), To: &bob.addr, Gas: params.MaxTxGas, GasFeeCap: gwei, GasTipCap: new(big.Int), Data: make([]byte, size)})
		return encodeTx(t, tx)
	}
	overhead := len(large(1<<16)) - 1<<16
	_, err = DecodeTransaction(large(MaxTransactionBytes - overhead))
	require.NoError(t, err, "the largest")

	for _, test := range []struct {
		name string
		raw  []byte
		want error
	}{
		{"nothing", nil, ErrMalformedTransaction},
		{"one byte more than the largest", large(MaxTransactionBytes - overhead + 1), ErrTransactionTooLarge},
		{"blob", blob, ErrBlobTransaction},
		{"blob, malformed", []byte{3, 0}, ErrBlobTransaction},
		{"type 5", append([]byte{5}, dynamic[1:]...), types.ErrTxTypeNotSupported},
		{"type 0x7f", []byte{0x7f, 0xc0}, types.ErrTxTypeNotSupported},
		{"type 0 with its byte", append([]byte{0}, legacy...), types.ErrTxTypeNotSupported},
		{"type byte alone", []byte{2}, ErrMalformedTransaction},
		{"cut", dynamic[:len(dynamic)-1], ErrMalformedTransaction},
		{"cut, legacy", legacy[:len(legacy)-1], ErrMalformedTransaction},
		{"trailing byte", append(bytes.Clone(dynamic), 0), ErrMalformedTransaction},
		{"trailing byte, legacy", append(bytes.Clone(legacy), 0), ErrMalformedTransaction},
		{"wrapped in a string, as in a block", wrapped, ErrMalformedTransaction},
		{"fields of another type", append([]byte{1}, dynamic[1:]...), ErrMalformedTransaction},
		{"a list of nothing", []byte{0xc0}, ErrMalformedTransaction},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := DecodeTransaction(test.raw)
			require.ErrorIs(t, err, test.want)
		})
	}
}

// rlpString is how a typed transaction stands in a block body.
func rlpString(b []byte) ([]byte, error) {
	var buf bytes.Buffer
	buf.WriteByte(0xb8)
	buf.WriteByte(byte(len(b)))
	_, err := buf.Write(b)
	return buf.Bytes(), err
}

// What decodes, encodes to the same bytes: a transaction has one encoding, hence one hash. And whatever decodes can be
// given to Execute, which may skip it, but not fail.
func FuzzDecodeTransaction(f *testing.F) {
	for _, tx := range typedTransactions(bob.addr) {
		f.Add(encodeTx(f, tx))
	}
	for _, s := range skips {
		f.Add(encodeTx(f, s.tx))
	}
	f.Add([]byte{0xc0})
	f.Add([]byte{4, 0xc0})
	chain := newChain(f, nil)
	f.Fuzz(func(t *testing.T, raw []byte) {
		c := *chain
		c.tb = t
		tx, err := DecodeTransaction(raw)
		if err != nil {
			require.Nil(t, tx)
			return
		}
		require.Equal(t, raw, encodeTx(t, tx))
		require.NotEqual(t, uint8(types.BlobTxType), tx.Type())
		_, err = c.x.Execute(c.state(), c.head, c.env(), []*types.Transaction{tx})
		require.NoError(t, err)
	})
}

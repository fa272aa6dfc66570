package devkeys

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha512"
	"encoding/binary"
	"math/big"
	"strconv"
	"testing"

	"github.com/ethereum/go-ethereum/accounts"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/stretchr/testify/require"
)

// TestKeysComeFromTheMnemonic derives the constants again: BIP-39 (the seed), then BIP-32 (the path).
func TestKeysComeFromTheMnemonic(t *testing.T) {
	seed, err := pbkdf2.Key(sha512.New, Mnemonic, []byte("mnemonic"), 2048, 64)
	require.NoError(t, err)
	for i, account := range Accounts() {
		path, err := accounts.ParseDerivationPath(Path + strconv.Itoa(i))
		require.NoError(t, err)
		require.Equal(t, new(big.Int).SetBytes(crypto.FromECDSA(account.Key)), derive(t, seed, path), "key %d", i)
	}
}

// TestAddresses pins the addresses that scripts know by heart.
func TestAddresses(t *testing.T) {
	addresses := Addresses()
	require.Len(t, addresses, 10)
	require.Equal(t, "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266", addresses[0].Hex())
	require.Equal(t, "0x70997970C51812dc3A010C7d01b50e0d17dc79C8", addresses[1].Hex())
	require.Equal(t, "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC", addresses[2].Hex())
	require.Equal(t, "0xa0Ee7A142d267C1f36714E4a8F75612F20a79720", addresses[9].Hex())
	require.Equal(t, "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80", Accounts()[0].Hex())
}

// derive walks a BIP-32 path from the master key of a seed.
func derive(t *testing.T, seed []byte, path accounts.DerivationPath) *big.Int {
	mac := func(key, data []byte) (*big.Int, []byte) {
		h := hmac.New(sha512.New, key)
		h.Write(data)
		sum := h.Sum(nil)
		return new(big.Int).SetBytes(sum[:32]), sum[32:]
	}
	key, chain := mac([]byte("Bitcoin seed"), seed)
	for _, index := range path {
		var data []byte
		if index >= 1<<31 {
			data = append([]byte{0}, key.FillBytes(make([]byte, 32))...)
		} else {
			parent, err := crypto.ToECDSA(key.FillBytes(make([]byte, 32)))
			require.NoError(t, err)
			data = crypto.CompressPubkey(&parent.PublicKey)
		}
		tweak, next := mac(chain, binary.BigEndian.AppendUint32(data, index))
		key = tweak.Add(tweak, key)
		key.Mod(key, crypto.S256().Params().N)
		chain = next
	}
	return key
}

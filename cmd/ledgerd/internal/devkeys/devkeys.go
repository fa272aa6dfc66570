// Package devkeys holds the ten accounts that a development chain funds.
//
// They are the first ten keys of the test mnemonic that Hardhat, Anvil and Foundry use, on the path
// m/44'/60'/0'/0/i, so that scripts and wallet set-ups written for those work unchanged. Everybody knows these keys.
// They are constants because deriving them at every start would buy nothing; the package's test derives them.
package devkeys

import (
	"crypto/ecdsa"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
)

const (
	// Mnemonic is the phrase that the keys come from.
	Mnemonic = "test test test test test test test test test test test junk"
	// Path is the derivation path, to which the account's index is appended.
	Path = "m/44'/60'/0'/0/"
)

// An Account is one funded account with its key.
type Account struct {
	Address common.Address
	Key     *ecdsa.PrivateKey
}

// Hex returns the private key as wallets take it: 0x and 64 digits.
func (a Account) Hex() string { return "0x" + common.Bytes2Hex(crypto.FromECDSA(a.Key)) }

// Accounts returns the ten accounts, in order of their index. The caller owns the result.
func Accounts() []Account {
	accounts := make([]Account, len(keys))
	for i, hex := range keys {
		key, err := crypto.HexToECDSA(hex)
		if err != nil {
			panic("devkeys: a constant is no key: " + err.Error())
		}
		accounts[i] = Account{crypto.PubkeyToAddress(key.PublicKey), key}
	}
	return accounts
}

// Addresses returns the addresses of Accounts.
func Addresses() []common.Address {
	var addresses []common.Address
	for _, a := range Accounts() {
		addresses = append(addresses, a.Address)
	}
	return addresses
}

// Keys returns the private keys of Accounts.
func Keys() []*ecdsa.PrivateKey {
	var private []*ecdsa.PrivateKey
	for _, a := range Accounts() {
		private = append(private, a.Key)
	}
	return private
}

var keys = [10]string{
	"ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
	"59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d",
	"5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a",
	"7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6",
	"47e179ec197488593b187f80a00eb0da91f1b9d0b13f8733639f19c30a34926a",
	"8b3a350cf5c34c9194ca85829a2df0ec3153be0318b5e2d3348e872092edffba",
	"92db14e403b83dfe3df233f83dfa3a0d7096f21ca9b0d6d6b8d88b2b4ec1564e",
	"4bbbf85ce3377467afe5d46f804f221813b2bb87f24d81f60f1fcdbf7cbf4356",
	"dbda1821b80551c9d65939329250298aa3472ba22feea921c0cf5d620ea67b97",
	"2a871d0798f97d79848a013d4936a73bf4cc922c825d33c1cf7073dff6d409c6",
}

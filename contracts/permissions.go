package contracts

import (
	"errors"
	"fmt"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
)

// PermissionsAddress is where the Permissions contract lives on every ledger. It is a fixed point of the protocol, like
// the address of an EIP's system contract, so that the executor needs no configuration to find it.
var PermissionsAddress = common.HexToAddress("0x0000000000000000000000000000001ed6e40001")

// The bits of an account's flags (slot 0).
const (
	FlagSend   uint64 = 1 << iota // may send transactions while RestrictSend is in force
	FlagDeploy                    // its transactions may create contracts while RestrictDeploy is in force
	FlagAdmin                     // may change flags and restrictions
)

// The bits of the restrictions (slot 2).
const (
	RestrictSend   uint64 = 1 << iota // only accounts with FlagSend may send
	RestrictDeploy                    // only transactions sent by accounts with FlagDeploy may create contracts
)

// The plain slots of the Permissions contract; PermissionsSlot gives those of the mapping.
var (
	AdminCountSlot   = word(1)
	RestrictionsSlot = word(2)
)

// PermissionsSlot returns the storage slot of account's flags: keccak256(account ++ 0), both as 32 bytes, which is
// Solidity's place for a key of the mapping at slot 0.
func PermissionsSlot(account common.Address) common.Hash {
	var key [64]byte
	copy(key[12:32], account[:])
	return crypto.Keccak256Hash(key[:])
}

// Permissions is what the Permissions contract says in a genesis block. The zero value is an open ledger that nobody
// can ever restrict, since there is nobody to do it.
type Permissions struct {
	RestrictSend, RestrictDeploy bool

	Senders   []common.Address // FlagSend
	Deployers []common.Address // FlagDeploy; to deploy, they must be senders too while RestrictSend is in force
	Admins    []common.Address // FlagAdmin, and FlagSend with it (invariant 4)
}

// Validate reports every reason why a ledger should not be started with p: the zero address in a list, which the
// contract would not take either, and a restriction that shuts everybody out with nobody to lift it.
func (p Permissions) Validate() error {
	var errs []error
	for _, l := range []struct {
		name     string
		accounts []common.Address
	}{{"senders", p.Senders}, {"deployers", p.Deployers}, {"admins", p.Admins}} {
		for i, a := range l.accounts {
			if a == (common.Address{}) {
				errs = append(errs, fmt.Errorf("permissions: %s[%d] is the zero address", l.name, i))
			}
		}
	}
	if p.RestrictSend && len(p.Senders) == 0 && len(p.Admins) == 0 {
		errs = append(errs, errors.New("permissions: sending is restricted and nobody may send"))
	}
	if p.RestrictDeploy && len(p.Deployers) == 0 && len(p.Admins) == 0 {
		errs = append(errs, errors.New("permissions: deploying is restricted, nobody may deploy, and there is no administrator to change it"))
	}
	return errors.Join(errs...)
}

// Account returns the contract's account in a genesis block: code, nonce 1, and the storage that p describes. An address
// may stand in several lists, or twice in one.
func (p Permissions) Account() types.Account {
	flags := make(map[common.Address]uint64)
	for _, a := range p.Senders {
		flags[a] |= FlagSend
	}
	for _, a := range p.Deployers {
		flags[a] |= FlagDeploy
	}
	for _, a := range p.Admins {
		flags[a] |= FlagAdmin | FlagSend
	}
	storage := make(map[common.Hash]common.Hash)
	var admins uint64
	for a, f := range flags {
		storage[PermissionsSlot(a)] = word(f)
		if f&FlagAdmin != 0 {
			admins++
		}
	}
	var restrictions uint64
	if p.RestrictSend {
		restrictions |= RestrictSend
	}
	if p.RestrictDeploy {
		restrictions |= RestrictDeploy
	}
	// Zero slots are not in a trie. Left out here too, they do not show in a genesis file either.
	if admins != 0 {
		storage[AdminCountSlot] = word(admins)
	}
	if restrictions != 0 {
		storage[RestrictionsSlot] = word(restrictions)
	}
	return predeploy(permissionsCode(), storage)
}

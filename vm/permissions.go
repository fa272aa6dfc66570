package vm

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core"
	gethvm "github.com/ethereum/go-ethereum/core/vm"

	"ledgerd/contracts"
)

// Why a transaction is not permitted. The Permissions contract may change its mind, so neither is for good.
var (
	// ErrSendNotPermitted: sending is restricted and the recovered sender does not have the send flag.
	ErrSendNotPermitted = errors.New("sender is not permitted to send transactions")
	// ErrDeployNotPermitted: deploying is restricted, the sender does not have the deploy flag, and the transaction
	// creates a contract, be it itself or through a contract that it calls.
	ErrDeployNotPermitted = errors.New("sender is not permitted to create contracts")
)

// StorageReader is what permissions are read from; *state.StateDB is one.
type StorageReader interface {
	GetState(account common.Address, slot common.Hash) common.Hash
}

// Permitted returns nil if the Permissions contract in st lets sender send a transaction (or, with create, one that
// creates a contract), else an error that wraps ErrSendNotPermitted or ErrDeployNotPermitted. A nil answer without
// create does not say that the transaction may create contracts by calling a factory: that shows only in execution.
func Permitted(st StorageReader, sender common.Address, create bool) error {
	send, deploy := permissions(st, sender)
	return denial(sender, send, deploy || !create)
}

// denial returns why a transaction of sender is not permitted, nil if it is.
func denial(sender common.Address, maySend, mayCreate bool) error {
	switch {
	case !maySend:
		return fmt.Errorf("%w: %s", ErrSendNotPermitted, sender)
	case !mayCreate:
		return fmt.Errorf("%w: %s", ErrDeployNotPermitted, sender)
	}
	return nil
}

// permissions reads the contract's slots straight from the state: no EVM call, so no gas and no warm address. On an
// open ledger, or one without the contract, it costs one read of a slot that is in memory after the first time.
func permissions(st StorageReader, account common.Address) (send, deploy bool) {
	restrictions := lowWord(st.GetState(contracts.PermissionsAddress, contracts.RestrictionsSlot))
	if restrictions&(contracts.RestrictSend|contracts.RestrictDeploy) == 0 {
		return true, true
	}
	flags := lowWord(st.GetState(contracts.PermissionsAddress, contracts.PermissionsSlot(account)))
	send = restrictions&contracts.RestrictSend == 0 || flags&contracts.FlagSend != 0
	deploy = restrictions&contracts.RestrictDeploy == 0 || flags&contracts.FlagDeploy != 0
	return send, deploy
}

func lowWord(h common.Hash) uint64 { return binary.BigEndian.Uint64(h[24:]) }

// permit reads the sender's permissions at the message's turn (invariant 4). It returns an error if the message is
// not permitted as it stands, and a guard if it must be watched for creating contracts while it runs.
func (r *blockRun) permit(msg *core.Message) (*deployGuard, error) {
	if msg.Nonce < r.st.GetNonce(msg.From) {
		return nil, nil // Used up for good, which ApplyMessage says; a permission might be granted again.
	}
	send, deploy := permissions(r.st, msg.From)
	if err := denial(msg.From, send, deploy || msg.To != nil); err != nil {
		return nil, err
	}
	if deploy {
		return nil, nil
	}
	return &deployGuard{recorder: &r.accounts, sender: msg.From}, nil
}

// A deployGuard is the state as a transaction sees it whose sender may not create contracts. CREATE and CREATE2 reach
// CreateContract once their own conditions hold (depth, balance, no collision) and before any init code runs. The
// guard ends the execution there: the transaction is going to be skipped, so nothing it does from then on matters.
// An attempt counts even if a caller's revert would have undone it.
//
// The alternative, making the opcode fail inside the transaction and including it, would put blocks on the chain that
// no other client and no tracer could replay (invariant 3).
type deployGuard struct {
	*recorder
	sender  common.Address
	evm     *gethvm.EVM // under which it runs, set when it starts
	tripped bool
}

func (g *deployGuard) CreateContract(account common.Address) {
	g.tripped = true
	// The interpreter looks at this at each jump; code without jumps ends by itself.
	g.evm.Cancel()
	g.recorder.CreateContract(account)
}

func (g *deployGuard) err() error { return denial(g.sender, true, false) }

// AccountPermissions is what the Permissions contract says of an account, and of the ledger.
type AccountPermissions struct {
	RestrictSend, RestrictDeploy bool // only those with the flag may; else everybody may
	Send, Deploy, Administer     bool // the account's flags
}

// PermissionsOf reads the Permissions contract in st. On a ledger without the contract nothing is restricted and nobody has a flag.
func PermissionsOf(st StorageReader, account common.Address) AccountPermissions {
	restrictions := lowWord(st.GetState(contracts.PermissionsAddress, contracts.RestrictionsSlot))
	flags := lowWord(st.GetState(contracts.PermissionsAddress, contracts.PermissionsSlot(account)))
	return AccountPermissions{
		RestrictSend:   restrictions&contracts.RestrictSend != 0,
		RestrictDeploy: restrictions&contracts.RestrictDeploy != 0,
		Send:           flags&contracts.FlagSend != 0,
		Deploy:         flags&contracts.FlagDeploy != 0,
		Administer:     flags&contracts.FlagAdmin != 0,
	}
}

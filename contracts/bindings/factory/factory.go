// Code generated via abigen V2 - DO NOT EDIT.
// This file is a generated binding and any manual changes will be lost.

package factory

import (
	"bytes"
	"errors"
	"math/big"

	"github.com/ethereum/go-ethereum/accounts/abi"
	"github.com/ethereum/go-ethereum/accounts/abi/bind/v2"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
)

// Reference imports to suppress errors if they are not otherwise used.
var (
	_ = bytes.Equal
	_ = errors.New
	_ = big.NewInt
	_ = common.Big1
	_ = types.BloomLookup
	_ = abi.ConvertType
)

// FactoryMetaData contains all meta data concerning the Factory contract.
var FactoryMetaData = bind.MetaData{
	ABI: "[{\"anonymous\":false,\"inputs\":[{\"indexed\":true,\"internalType\":\"contractBox\",\"name\":\"box\",\"type\":\"address\"},{\"indexed\":true,\"internalType\":\"address\",\"name\":\"creator\",\"type\":\"address\"},{\"indexed\":false,\"internalType\":\"uint256\",\"name\":\"value\",\"type\":\"uint256\"}],\"name\":\"BoxCreated\",\"type\":\"event\"},{\"inputs\":[{\"internalType\":\"bytes32\",\"name\":\"salt\",\"type\":\"bytes32\"},{\"internalType\":\"uint256\",\"name\":\"value\",\"type\":\"uint256\"}],\"name\":\"boxAddress\",\"outputs\":[{\"internalType\":\"address\",\"name\":\"\",\"type\":\"address\"}],\"stateMutability\":\"view\",\"type\":\"function\"},{\"inputs\":[{\"internalType\":\"uint256\",\"name\":\"value\",\"type\":\"uint256\"}],\"name\":\"create\",\"outputs\":[{\"internalType\":\"contractBox\",\"name\":\"box\",\"type\":\"address\"}],\"stateMutability\":\"nonpayable\",\"type\":\"function\"},{\"inputs\":[{\"internalType\":\"bytes32\",\"name\":\"salt\",\"type\":\"bytes32\"},{\"internalType\":\"uint256\",\"name\":\"value\",\"type\":\"uint256\"}],\"name\":\"create2\",\"outputs\":[{\"internalType\":\"contractBox\",\"name\":\"box\",\"type\":\"address\"}],\"stateMutability\":\"nonpayable\",\"type\":\"function\"}]",
	ID:  "Factory",
	Bin: "0x6080604052348015600e575f5ffd5b506103a38061001c5f395ff3fe608060405234801561000f575f5ffd5b506004361061003f575f3560e01c806321b4e56314610043578063780900dc14610072578063cb85800214610085575b5f5ffd5b610056610051366004610281565b610098565b6040516001600160a01b03909116815260200160405180910390f35b6100566100803660046102a1565b61016b565b610056610093366004610281565b6101ed565b5f5f604051806020016100aa90610275565b601f1982820381018352601f909101166040818152602082018690520160408051601f19818403018152908290526100e592916020016102cf565b60408051601f1981840301815282825280516020918201207fff00000000000000000000000000000000000000000000000000000000000000828501523060601b6bffffffffffffffffffffffff191660218501526035840197909752605580840197909752815180840390970187526075909201905284519401939093209392505050565b5f8160405161017990610275565b908152602001604051809103905ff080158015610198573d5f5f3e3d5ffd5b509050336001600160a01b0316816001600160a01b03167f2f242946d5288571a5e0ddc70f0647f1dc30e1fa52b0f7f55ae494c156d980c6846040516101e091815260200190565b60405180910390a3919050565b5f82826040516101fc90610275565b9081526020018190604051809103905ff590508015801561021f573d5f5f3e3d5ffd5b509050336001600160a01b0316816001600160a01b03167f2f242946d5288571a5e0ddc70f0647f1dc30e1fa52b0f7f55ae494c156d980c68460405161026791815260200190565b60405180910390a392915050565b60b7806102ec83390190565b5f5f60408385031215610292575f5ffd5b50508035926020909101359150565b5f602082840312156102b1575f5ffd5b5035919050565b5f81518060208401855e5f93019283525090919050565b5f6102e36102dd83866102b8565b846102b8565b94935050505056fe60a0604052348015600e575f5ffd5b5060405160b738038060b78339810160408190526029916030565b6080526046565b5f60208284031215603f575f5ffd5b5051919050565b608051605d605a5f395f602c0152605d5ff3fe6080604052348015600e575f5ffd5b50600436106026575f3560e01c80633fa4f24514602a575b5f5ffd5b7f000000000000000000000000000000000000000000000000000000000000000060405190815260200160405180910390f3",
}

// Factory is an auto generated Go binding around an Ethereum contract.
type Factory struct {
	abi abi.ABI
}

// GetABI returns the ABI associated with this contract binding.
func (c *Factory) GetABI() abi.ABI {
	return c.abi
}

// NewFactory creates a new instance of Factory.
func NewFactory() *Factory {
	parsed, err := FactoryMetaData.ParseABI()
	if err != nil {
		panic(errors.New("invalid ABI: " + err.Error()))
	}
	return &Factory{abi: *parsed}
}

// Instance creates a wrapper for a deployed contract instance at the given address.
// Use this to create the instance object passed to abigen v2 library functions Call, Transact, etc.
func (c *Factory) Instance(backend bind.ContractBackend, addr common.Address) *bind.BoundContract {
	return bind.NewBoundContract(addr, c.abi, backend, backend, backend)
}

// PackBoxAddress is the Go binding used to pack the parameters required for calling
// the contract method with ID 0x21b4e563.  This method will panic if any
// invalid/nil inputs are passed.
//
// Solidity: function boxAddress(bytes32 salt, uint256 value) view returns(address)
func (factory *Factory) PackBoxAddress(salt [32]byte, value *big.Int) []byte {
	enc, err := factory.abi.Pack("boxAddress", salt, value)
	if err != nil {
		panic(err)
	}
	return enc
}

// TryPackBoxAddress is the Go binding used to pack the parameters required for calling
// the contract method with ID 0x21b4e563.  This method will return an error
// if any inputs are invalid/nil.
//
// Solidity: function boxAddress(bytes32 salt, uint256 value) view returns(address)
func (factory *Factory) TryPackBoxAddress(salt [32]byte, value *big.Int) ([]byte, error) {
	return factory.abi.Pack("boxAddress", salt, value)
}

// UnpackBoxAddress is the Go binding that unpacks the parameters returned
// from invoking the contract method with ID 0x21b4e563.
//
// Solidity: function boxAddress(bytes32 salt, uint256 value) view returns(address)
func (factory *Factory) UnpackBoxAddress(data []byte) (common.Address, error) {
	out, err := factory.abi.Unpack("boxAddress", data)
	if err != nil {
		return *new(common.Address), err
	}
	out0 := *abi.ConvertType(out[0], new(common.Address)).(*common.Address)
	return out0, nil
}

// PackCreate is the Go binding used to pack the parameters required for calling
// the contract method with ID 0x780900dc.  This method will panic if any
// invalid/nil inputs are passed.
//
// Solidity: function create(uint256 value) returns(address box)
func (factory *Factory) PackCreate(value *big.Int) []byte {
	enc, err := factory.abi.Pack("create", value)
	if err != nil {
		panic(err)
	}
	return enc
}

// TryPackCreate is the Go binding used to pack the parameters required for calling
// the contract method with ID 0x780900dc.  This method will return an error
// if any inputs are invalid/nil.
//
// Solidity: function create(uint256 value) returns(address box)
func (factory *Factory) TryPackCreate(value *big.Int) ([]byte, error) {
	return factory.abi.Pack("create", value)
}

// UnpackCreate is the Go binding that unpacks the parameters returned
// from invoking the contract method with ID 0x780900dc.
//
// Solidity: function create(uint256 value) returns(address box)
func (factory *Factory) UnpackCreate(data []byte) (common.Address, error) {
	out, err := factory.abi.Unpack("create", data)
	if err != nil {
		return *new(common.Address), err
	}
	out0 := *abi.ConvertType(out[0], new(common.Address)).(*common.Address)
	return out0, nil
}

// PackCreate2 is the Go binding used to pack the parameters required for calling
// the contract method with ID 0xcb858002.  This method will panic if any
// invalid/nil inputs are passed.
//
// Solidity: function create2(bytes32 salt, uint256 value) returns(address box)
func (factory *Factory) PackCreate2(salt [32]byte, value *big.Int) []byte {
	enc, err := factory.abi.Pack("create2", salt, value)
	if err != nil {
		panic(err)
	}
	return enc
}

// TryPackCreate2 is the Go binding used to pack the parameters required for calling
// the contract method with ID 0xcb858002.  This method will return an error
// if any inputs are invalid/nil.
//
// Solidity: function create2(bytes32 salt, uint256 value) returns(address box)
func (factory *Factory) TryPackCreate2(salt [32]byte, value *big.Int) ([]byte, error) {
	return factory.abi.Pack("create2", salt, value)
}

// UnpackCreate2 is the Go binding that unpacks the parameters returned
// from invoking the contract method with ID 0xcb858002.
//
// Solidity: function create2(bytes32 salt, uint256 value) returns(address box)
func (factory *Factory) UnpackCreate2(data []byte) (common.Address, error) {
	out, err := factory.abi.Unpack("create2", data)
	if err != nil {
		return *new(common.Address), err
	}
	out0 := *abi.ConvertType(out[0], new(common.Address)).(*common.Address)
	return out0, nil
}

// FactoryBoxCreated represents a BoxCreated event raised by the Factory contract.
type FactoryBoxCreated struct {
	Box     common.Address
	Creator common.Address
	Value   *big.Int
	Raw     *types.Log // Blockchain specific contextual infos
}

const FactoryBoxCreatedEventName = "BoxCreated"

// ContractEventName returns the user-defined event name.
func (FactoryBoxCreated) ContractEventName() string {
	return FactoryBoxCreatedEventName
}

// UnpackBoxCreatedEvent is the Go binding that unpacks the event data emitted
// by contract.
//
// Solidity: event BoxCreated(address indexed box, address indexed creator, uint256 value)
func (factory *Factory) UnpackBoxCreatedEvent(log *types.Log) (*FactoryBoxCreated, error) {
	event := "BoxCreated"
	if len(log.Topics) == 0 {
		return nil, bind.ErrNoEventSignature
	}
	if log.Topics[0] != factory.abi.Events[event].ID {
		return nil, bind.ErrEventSignatureMismatch
	}
	out := new(FactoryBoxCreated)
	if len(log.Data) > 0 {
		if err := factory.abi.UnpackIntoInterface(out, event, log.Data); err != nil {
			return nil, err
		}
	}
	var indexed abi.Arguments
	for _, arg := range factory.abi.Events[event].Inputs {
		if arg.Indexed {
			indexed = append(indexed, arg)
		}
	}
	if err := abi.ParseTopics(out, indexed, log.Topics[1:]); err != nil {
		return nil, err
	}
	out.Raw = log
	return out, nil
}

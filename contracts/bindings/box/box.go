// Code generated via abigen V2 - DO NOT EDIT.
// This file is a generated binding and any manual changes will be lost.

package box

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

// BoxMetaData contains all meta data concerning the Box contract.
var BoxMetaData = bind.MetaData{
	ABI: "[{\"inputs\":[{\"internalType\":\"uint256\",\"name\":\"value_\",\"type\":\"uint256\"}],\"stateMutability\":\"nonpayable\",\"type\":\"constructor\"},{\"inputs\":[],\"name\":\"value\",\"outputs\":[{\"internalType\":\"uint256\",\"name\":\"\",\"type\":\"uint256\"}],\"stateMutability\":\"view\",\"type\":\"function\"}]",
	ID:  "Box",
	Bin: "0x60a0604052348015600e575f5ffd5b5060405160b738038060b78339810160408190526029916030565b6080526046565b5f60208284031215603f575f5ffd5b5051919050565b608051605d605a5f395f602c0152605d5ff3fe6080604052348015600e575f5ffd5b50600436106026575f3560e01c80633fa4f24514602a575b5f5ffd5b7f000000000000000000000000000000000000000000000000000000000000000060405190815260200160405180910390f3",
}

// Box is an auto generated Go binding around an Ethereum contract.
type Box struct {
	abi abi.ABI
}

// GetABI returns the ABI associated with this contract binding.
func (c *Box) GetABI() abi.ABI {
	return c.abi
}

// NewBox creates a new instance of Box.
func NewBox() *Box {
	parsed, err := BoxMetaData.ParseABI()
	if err != nil {
		panic(errors.New("invalid ABI: " + err.Error()))
	}
	return &Box{abi: *parsed}
}

// Instance creates a wrapper for a deployed contract instance at the given address.
// Use this to create the instance object passed to abigen v2 library functions Call, Transact, etc.
func (c *Box) Instance(backend bind.ContractBackend, addr common.Address) *bind.BoundContract {
	return bind.NewBoundContract(addr, c.abi, backend, backend, backend)
}

// PackConstructor is the Go binding used to pack the parameters required for
// contract deployment.
//
// Solidity: constructor(uint256 value_) returns()
func (box *Box) PackConstructor(value_ *big.Int) []byte {
	enc, err := box.abi.Pack("", value_)
	if err != nil {
		panic(err)
	}
	return enc
}

// PackValue is the Go binding used to pack the parameters required for calling
// the contract method with ID 0x3fa4f245.  This method will panic if any
// invalid/nil inputs are passed.
//
// Solidity: function value() view returns(uint256)
func (box *Box) PackValue() []byte {
	enc, err := box.abi.Pack("value")
	if err != nil {
		panic(err)
	}
	return enc
}

// TryPackValue is the Go binding used to pack the parameters required for calling
// the contract method with ID 0x3fa4f245.  This method will return an error
// if any inputs are invalid/nil.
//
// Solidity: function value() view returns(uint256)
func (box *Box) TryPackValue() ([]byte, error) {
	return box.abi.Pack("value")
}

// UnpackValue is the Go binding that unpacks the parameters returned
// from invoking the contract method with ID 0x3fa4f245.
//
// Solidity: function value() view returns(uint256)
func (box *Box) UnpackValue(data []byte) (*big.Int, error) {
	out, err := box.abi.Unpack("value", data)
	if err != nil {
		return new(big.Int), err
	}
	out0 := abi.ConvertType(out[0], new(big.Int)).(*big.Int)
	return out0, nil
}

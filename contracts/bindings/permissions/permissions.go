// Code generated via abigen V2 - DO NOT EDIT.
// This file is a generated binding and any manual changes will be lost.

package permissions

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

// PermissionsMetaData contains all meta data concerning the Permissions contract.
var PermissionsMetaData = bind.MetaData{
	ABI: "[{\"inputs\":[{\"internalType\":\"address\",\"name\":\"account\",\"type\":\"address\"}],\"name\":\"PermissionsAdministratorMustSend\",\"type\":\"error\"},{\"inputs\":[{\"internalType\":\"address\",\"name\":\"account\",\"type\":\"address\"}],\"name\":\"PermissionsInvalidAccount\",\"type\":\"error\"},{\"inputs\":[{\"internalType\":\"uint256\",\"name\":\"accounts\",\"type\":\"uint256\"},{\"internalType\":\"uint256\",\"name\":\"flags\",\"type\":\"uint256\"}],\"name\":\"PermissionsInvalidBatch\",\"type\":\"error\"},{\"inputs\":[{\"internalType\":\"uint256\",\"name\":\"flags\",\"type\":\"uint256\"}],\"name\":\"PermissionsInvalidFlags\",\"type\":\"error\"},{\"inputs\":[{\"internalType\":\"uint256\",\"name\":\"restrictions\",\"type\":\"uint256\"}],\"name\":\"PermissionsInvalidRestrictions\",\"type\":\"error\"},{\"inputs\":[],\"name\":\"PermissionsLastAdministrator\",\"type\":\"error\"},{\"inputs\":[{\"internalType\":\"address\",\"name\":\"account\",\"type\":\"address\"}],\"name\":\"PermissionsUnauthorizedAccount\",\"type\":\"error\"},{\"anonymous\":false,\"inputs\":[{\"indexed\":true,\"internalType\":\"address\",\"name\":\"account\",\"type\":\"address\"},{\"indexed\":false,\"internalType\":\"uint256\",\"name\":\"previousFlags\",\"type\":\"uint256\"},{\"indexed\":false,\"internalType\":\"uint256\",\"name\":\"flags\",\"type\":\"uint256\"},{\"indexed\":true,\"internalType\":\"address\",\"name\":\"administrator\",\"type\":\"address\"}],\"name\":\"PermissionsChanged\",\"type\":\"event\"},{\"anonymous\":false,\"inputs\":[{\"indexed\":false,\"internalType\":\"uint256\",\"name\":\"previousRestrictions\",\"type\":\"uint256\"},{\"indexed\":false,\"internalType\":\"uint256\",\"name\":\"restrictions\",\"type\":\"uint256\"},{\"indexed\":true,\"internalType\":\"address\",\"name\":\"administrator\",\"type\":\"address\"}],\"name\":\"RestrictionsChanged\",\"type\":\"event\"},{\"inputs\":[],\"name\":\"ADMINISTER\",\"outputs\":[{\"internalType\":\"uint256\",\"name\":\"\",\"type\":\"uint256\"}],\"stateMutability\":\"view\",\"type\":\"function\"},{\"inputs\":[],\"name\":\"DEPLOY\",\"outputs\":[{\"internalType\":\"uint256\",\"name\":\"\",\"type\":\"uint256\"}],\"stateMutability\":\"view\",\"type\":\"function\"},{\"inputs\":[],\"name\":\"RESTRICT_DEPLOY\",\"outputs\":[{\"internalType\":\"uint256\",\"name\":\"\",\"type\":\"uint256\"}],\"stateMutability\":\"view\",\"type\":\"function\"},{\"inputs\":[],\"name\":\"RESTRICT_SEND\",\"outputs\":[{\"internalType\":\"uint256\",\"name\":\"\",\"type\":\"uint256\"}],\"stateMutability\":\"view\",\"type\":\"function\"},{\"inputs\":[],\"name\":\"SEND\",\"outputs\":[{\"internalType\":\"uint256\",\"name\":\"\",\"type\":\"uint256\"}],\"stateMutability\":\"view\",\"type\":\"function\"},{\"inputs\":[],\"name\":\"administrators\",\"outputs\":[{\"internalType\":\"uint256\",\"name\":\"\",\"type\":\"uint256\"}],\"stateMutability\":\"view\",\"type\":\"function\"},{\"inputs\":[{\"internalType\":\"address\",\"name\":\"account\",\"type\":\"address\"},{\"internalType\":\"uint256\",\"name\":\"flags\",\"type\":\"uint256\"}],\"name\":\"grant\",\"outputs\":[],\"stateMutability\":\"nonpayable\",\"type\":\"function\"},{\"inputs\":[{\"internalType\":\"address\",\"name\":\"account\",\"type\":\"address\"}],\"name\":\"isAdmin\",\"outputs\":[{\"internalType\":\"bool\",\"name\":\"\",\"type\":\"bool\"}],\"stateMutability\":\"view\",\"type\":\"function\"},{\"inputs\":[{\"internalType\":\"address\",\"name\":\"account\",\"type\":\"address\"}],\"name\":\"mayDeploy\",\"outputs\":[{\"internalType\":\"bool\",\"name\":\"\",\"type\":\"bool\"}],\"stateMutability\":\"view\",\"type\":\"function\"},{\"inputs\":[{\"internalType\":\"address\",\"name\":\"account\",\"type\":\"address\"}],\"name\":\"maySend\",\"outputs\":[{\"internalType\":\"bool\",\"name\":\"\",\"type\":\"bool\"}],\"stateMutability\":\"view\",\"type\":\"function\"},{\"inputs\":[{\"internalType\":\"address\",\"name\":\"account\",\"type\":\"address\"}],\"name\":\"permissionsOf\",\"outputs\":[{\"internalType\":\"uint256\",\"name\":\"\",\"type\":\"uint256\"}],\"stateMutability\":\"view\",\"type\":\"function\"},{\"inputs\":[],\"name\":\"restrictions\",\"outputs\":[{\"internalType\":\"uint256\",\"name\":\"\",\"type\":\"uint256\"}],\"stateMutability\":\"view\",\"type\":\"function\"},{\"inputs\":[{\"internalType\":\"address\",\"name\":\"account\",\"type\":\"address\"},{\"internalType\":\"uint256\",\"name\":\"flags\",\"type\":\"uint256\"}],\"name\":\"revoke\",\"outputs\":[],\"stateMutability\":\"nonpayable\",\"type\":\"function\"},{\"inputs\":[{\"internalType\":\"address\",\"name\":\"account\",\"type\":\"address\"},{\"internalType\":\"uint256\",\"name\":\"flags\",\"type\":\"uint256\"}],\"name\":\"setPermissions\",\"outputs\":[],\"stateMutability\":\"nonpayable\",\"type\":\"function\"},{\"inputs\":[{\"internalType\":\"address[]\",\"name\":\"accounts\",\"type\":\"address[]\"},{\"internalType\":\"uint256[]\",\"name\":\"flags\",\"type\":\"uint256[]\"}],\"name\":\"setPermissionsBatch\",\"outputs\":[],\"stateMutability\":\"nonpayable\",\"type\":\"function\"},{\"inputs\":[{\"internalType\":\"uint256\",\"name\":\"restrictions_\",\"type\":\"uint256\"}],\"name\":\"setRestrictions\",\"outputs\":[],\"stateMutability\":\"nonpayable\",\"type\":\"function\"}]",
	ID:  "Permissions",
	Bin: "0x6080604052348015600e575f5ffd5b506108e78061001c5f395ff3fe608060405234801561000f575f5ffd5b50600436106100fb575f3560e01c80636370920e11610093578063e0b3526611610063578063e0b35266146101f8578063e19267ed14610200578063eac449d914610213578063eb16a372146101c2575f5ffd5b80636370920e146101ca578063a077b298146101dd578063b05f195c14610142578063d11ea906146101e5575f5ffd5b80634570ec44116100ce5780634570ec441461018757806350c52c561461019c57806356e54f59146101af5780635ee0d95d146101c2575f5ffd5b80630aa582a3146100ff57806316bc2e8a1461013a5780631f5e13341461014257806324d7806c1461014a575b5f5ffd5b61012761010d36600461077f565b6001600160a01b03165f9081526020819052604090205490565b6040519081526020015b60405180910390f35b610127600481565b610127600181565b61017761015836600461077f565b6001600160a01b03165f90815260208190526040902054600416151590565b6040519015158152602001610131565b61019a61019536600461079f565b610226565b005b6101776101aa36600461077f565b610312565b6101776101bd36600461077f565b610345565b610127600281565b61019a6101d83660046107b6565b610373565b600254610127565b61019a6101f3366004610826565b610415565b600154610127565b61019a61020e3660046107b6565b61050c565b61019a6102213660046107b6565b610547565b335f9081526020819052604090205460041661025c57604051632778ec1560e21b81523360048201526024015b60405180910390fd5b60031981161561029b576040517fec22200e00000000000000000000000000000000000000000000000000000000815260048101829052602401610253565b6002548082036102ab57506102ed565b6002829055604080518281526020810184905233917f4176f910f35c54f8e165cff11f9a6af69579f5a560d6c51444503f096e02c411910160405180910390a2505b6001545f0361030f5760405163bd38962b60e01b815260040160405180910390fd5b50565b5f6001600254165f148061033f57506001600160a01b0382165f9081526020819052604090205460011615155b92915050565b5f60028054165f148061033f5750506001600160a01b03165f90815260208190526040902054600216151590565b335f908152602081905260409020546004166103a457604051632778ec1560e21b8152336004820152602401610253565b6007198116156103ca5760405163132c568560e11b815260048101829052602401610253565b6001600160a01b0382165f908152602081905260409020546103ef90839083176105c0565b6001545f036104115760405163bd38962b60e01b815260040160405180910390fd5b5050565b335f9081526020819052604090205460041661044657604051632778ec1560e21b8152336004820152602401610253565b828114610489576040517fc3ebbbb80000000000000000000000000000000000000000000000000000000081526004810184905260248101829052604401610253565b5f5b838110156104e3576104db8585838181106104a8576104a8610892565b90506020020160208101906104bd919061077f565b8484848181106104cf576104cf610892565b905060200201356105c0565b60010161048b565b506001545f036105065760405163bd38962b60e01b815260040160405180910390fd5b50505050565b335f9081526020819052604090205460041661053d57604051632778ec1560e21b8152336004820152602401610253565b6103ef82826105c0565b335f9081526020819052604090205460041661057857604051632778ec1560e21b8152336004820152602401610253565b60071981161561059e5760405163132c568560e11b815260048101829052602401610253565b6001600160a01b0382165f908152602081905260409020546103ef9083908319165b6001600160a01b03821661060b576040517fb78f2f6a0000000000000000000000000000000000000000000000000000000081526001600160a01b0383166004820152602401610253565b6007198116156106315760405163132c568560e11b815260048101829052602401610253565b6004811615801590610644575060018116155b15610686576040517fe2ceb2490000000000000000000000000000000000000000000000000000000081526001600160a01b0383166004820152602401610253565b6001600160a01b0382165f908152602081905260409020548082036106aa57505050565b6001600160a01b0383165f908152602081905260409020829055600481811615159083161580159081906106dc575081155b156106f45760015f81546106ef906108ba565b909155505b8180156106ff575080155b156107175760015f8154610712906108d2565b909155505b604080518481526020810186905233916001600160a01b038816917f3a7eb4c57d65888f6d17d7cb6d440a968e90eae88d711397eecac465f029c63b910160405180910390a35050505050565b80356001600160a01b038116811461077a575f5ffd5b919050565b5f6020828403121561078f575f5ffd5b61079882610764565b9392505050565b5f602082840312156107af575f5ffd5b5035919050565b5f5f604083850312156107c7575f5ffd5b6107d083610764565b946020939093013593505050565b5f5f83601f8401126107ee575f5ffd5b50813567ffffffffffffffff811115610805575f5ffd5b6020830191508360208260051b850101111561081f575f5ffd5b9250929050565b5f5f5f5f60408587031215610839575f5ffd5b843567ffffffffffffffff81111561084f575f5ffd5b61085b878288016107de565b909550935050602085013567ffffffffffffffff81111561087a575f5ffd5b610886878288016107de565b95989497509550505050565b634e487b7160e01b5f52603260045260245ffd5b634e487b7160e01b5f52601160045260245ffd5b5f600182016108cb576108cb6108a6565b5060010190565b5f816108e0576108e06108a6565b505f19019056",
}

// Permissions is an auto generated Go binding around an Ethereum contract.
type Permissions struct {
	abi abi.ABI
}

// GetABI returns the ABI associated with this contract binding.
func (c *Permissions) GetABI() abi.ABI {
	return c.abi
}

// NewPermissions creates a new instance of Permissions.
func NewPermissions() *Permissions {
	parsed, err := PermissionsMetaData.ParseABI()
	if err != nil {
		panic(errors.New("invalid ABI: " + err.Error()))
	}
	return &Permissions{abi: *parsed}
}

// Instance creates a wrapper for a deployed contract instance at the given address.
// Use this to create the instance object passed to abigen v2 library functions Call, Transact, etc.
func (c *Permissions) Instance(backend bind.ContractBackend, addr common.Address) *bind.BoundContract {
	return bind.NewBoundContract(addr, c.abi, backend, backend, backend)
}

// PackADMINISTER is the Go binding used to pack the parameters required for calling
// the contract method with ID 0x16bc2e8a.  This method will panic if any
// invalid/nil inputs are passed.
//
// Solidity: function ADMINISTER() view returns(uint256)
func (permissions *Permissions) PackADMINISTER() []byte {
	enc, err := permissions.abi.Pack("ADMINISTER")
	if err != nil {
		panic(err)
	}
	return enc
}

// TryPackADMINISTER is the Go binding used to pack the parameters required for calling
// the contract method with ID 0x16bc2e8a.  This method will return an error
// if any inputs are invalid/nil.
//
// Solidity: function ADMINISTER() view returns(uint256)
func (permissions *Permissions) TryPackADMINISTER() ([]byte, error) {
	return permissions.abi.Pack("ADMINISTER")
}

// UnpackADMINISTER is the Go binding that unpacks the parameters returned
// from invoking the contract method with ID 0x16bc2e8a.
//
// Solidity: function ADMINISTER() view returns(uint256)
func (permissions *Permissions) UnpackADMINISTER(data []byte) (*big.Int, error) {
	out, err := permissions.abi.Unpack("ADMINISTER", data)
	if err != nil {
		return new(big.Int), err
	}
	out0 := abi.ConvertType(out[0], new(big.Int)).(*big.Int)
	return out0, nil
}

// PackDEPLOY is the Go binding used to pack the parameters required for calling
// the contract method with ID 0x5ee0d95d.  This method will panic if any
// invalid/nil inputs are passed.
//
// Solidity: function DEPLOY() view returns(uint256)
func (permissions *Permissions) PackDEPLOY() []byte {
	enc, err := permissions.abi.Pack("DEPLOY")
	if err != nil {
		panic(err)
	}
	return enc
}

// TryPackDEPLOY is the Go binding used to pack the parameters required for calling
// the contract method with ID 0x5ee0d95d.  This method will return an error
// if any inputs are invalid/nil.
//
// Solidity: function DEPLOY() view returns(uint256)
func (permissions *Permissions) TryPackDEPLOY() ([]byte, error) {
	return permissions.abi.Pack("DEPLOY")
}

// UnpackDEPLOY is the Go binding that unpacks the parameters returned
// from invoking the contract method with ID 0x5ee0d95d.
//
// Solidity: function DEPLOY() view returns(uint256)
func (permissions *Permissions) UnpackDEPLOY(data []byte) (*big.Int, error) {
	out, err := permissions.abi.Unpack("DEPLOY", data)
	if err != nil {
		return new(big.Int), err
	}
	out0 := abi.ConvertType(out[0], new(big.Int)).(*big.Int)
	return out0, nil
}

// PackRESTRICTDEPLOY is the Go binding used to pack the parameters required for calling
// the contract method with ID 0xeb16a372.  This method will panic if any
// invalid/nil inputs are passed.
//
// Solidity: function RESTRICT_DEPLOY() view returns(uint256)
func (permissions *Permissions) PackRESTRICTDEPLOY() []byte {
	enc, err := permissions.abi.Pack("RESTRICT_DEPLOY")
	if err != nil {
		panic(err)
	}
	return enc
}

// TryPackRESTRICTDEPLOY is the Go binding used to pack the parameters required for calling
// the contract method with ID 0xeb16a372.  This method will return an error
// if any inputs are invalid/nil.
//
// Solidity: function RESTRICT_DEPLOY() view returns(uint256)
func (permissions *Permissions) TryPackRESTRICTDEPLOY() ([]byte, error) {
	return permissions.abi.Pack("RESTRICT_DEPLOY")
}

// UnpackRESTRICTDEPLOY is the Go binding that unpacks the parameters returned
// from invoking the contract method with ID 0xeb16a372.
//
// Solidity: function RESTRICT_DEPLOY() view returns(uint256)
func (permissions *Permissions) UnpackRESTRICTDEPLOY(data []byte) (*big.Int, error) {
	out, err := permissions.abi.Unpack("RESTRICT_DEPLOY", data)
	if err != nil {
		return new(big.Int), err
	}
	out0 := abi.ConvertType(out[0], new(big.Int)).(*big.Int)
	return out0, nil
}

// PackRESTRICTSEND is the Go binding used to pack the parameters required for calling
// the contract method with ID 0xb05f195c.  This method will panic if any
// invalid/nil inputs are passed.
//
// Solidity: function RESTRICT_SEND() view returns(uint256)
func (permissions *Permissions) PackRESTRICTSEND() []byte {
	enc, err := permissions.abi.Pack("RESTRICT_SEND")
	if err != nil {
		panic(err)
	}
	return enc
}

// TryPackRESTRICTSEND is the Go binding used to pack the parameters required for calling
// the contract method with ID 0xb05f195c.  This method will return an error
// if any inputs are invalid/nil.
//
// Solidity: function RESTRICT_SEND() view returns(uint256)
func (permissions *Permissions) TryPackRESTRICTSEND() ([]byte, error) {
	return permissions.abi.Pack("RESTRICT_SEND")
}

// UnpackRESTRICTSEND is the Go binding that unpacks the parameters returned
// from invoking the contract method with ID 0xb05f195c.
//
// Solidity: function RESTRICT_SEND() view returns(uint256)
func (permissions *Permissions) UnpackRESTRICTSEND(data []byte) (*big.Int, error) {
	out, err := permissions.abi.Unpack("RESTRICT_SEND", data)
	if err != nil {
		return new(big.Int), err
	}
	out0 := abi.ConvertType(out[0], new(big.Int)).(*big.Int)
	return out0, nil
}

// PackSEND is the Go binding used to pack the parameters required for calling
// the contract method with ID 0x1f5e1334.  This method will panic if any
// invalid/nil inputs are passed.
//
// Solidity: function SEND() view returns(uint256)
func (permissions *Permissions) PackSEND() []byte {
	enc, err := permissions.abi.Pack("SEND")
	if err != nil {
		panic(err)
	}
	return enc
}

// TryPackSEND is the Go binding used to pack the parameters required for calling
// the contract method with ID 0x1f5e1334.  This method will return an error
// if any inputs are invalid/nil.
//
// Solidity: function SEND() view returns(uint256)
func (permissions *Permissions) TryPackSEND() ([]byte, error) {
	return permissions.abi.Pack("SEND")
}

// UnpackSEND is the Go binding that unpacks the parameters returned
// from invoking the contract method with ID 0x1f5e1334.
//
// Solidity: function SEND() view returns(uint256)
func (permissions *Permissions) UnpackSEND(data []byte) (*big.Int, error) {
	out, err := permissions.abi.Unpack("SEND", data)
	if err != nil {
		return new(big.Int), err
	}
	out0 := abi.ConvertType(out[0], new(big.Int)).(*big.Int)
	return out0, nil
}

// PackAdministrators is the Go binding used to pack the parameters required for calling
// the contract method with ID 0xe0b35266.  This method will panic if any
// invalid/nil inputs are passed.
//
// Solidity: function administrators() view returns(uint256)
func (permissions *Permissions) PackAdministrators() []byte {
	enc, err := permissions.abi.Pack("administrators")
	if err != nil {
		panic(err)
	}
	return enc
}

// TryPackAdministrators is the Go binding used to pack the parameters required for calling
// the contract method with ID 0xe0b35266.  This method will return an error
// if any inputs are invalid/nil.
//
// Solidity: function administrators() view returns(uint256)
func (permissions *Permissions) TryPackAdministrators() ([]byte, error) {
	return permissions.abi.Pack("administrators")
}

// UnpackAdministrators is the Go binding that unpacks the parameters returned
// from invoking the contract method with ID 0xe0b35266.
//
// Solidity: function administrators() view returns(uint256)
func (permissions *Permissions) UnpackAdministrators(data []byte) (*big.Int, error) {
	out, err := permissions.abi.Unpack("administrators", data)
	if err != nil {
		return new(big.Int), err
	}
	out0 := abi.ConvertType(out[0], new(big.Int)).(*big.Int)
	return out0, nil
}

// PackGrant is the Go binding used to pack the parameters required for calling
// the contract method with ID 0x6370920e.  This method will panic if any
// invalid/nil inputs are passed.
//
// Solidity: function grant(address account, uint256 flags) returns()
func (permissions *Permissions) PackGrant(account common.Address, flags *big.Int) []byte {
	enc, err := permissions.abi.Pack("grant", account, flags)
	if err != nil {
		panic(err)
	}
	return enc
}

// TryPackGrant is the Go binding used to pack the parameters required for calling
// the contract method with ID 0x6370920e.  This method will return an error
// if any inputs are invalid/nil.
//
// Solidity: function grant(address account, uint256 flags) returns()
func (permissions *Permissions) TryPackGrant(account common.Address, flags *big.Int) ([]byte, error) {
	return permissions.abi.Pack("grant", account, flags)
}

// PackIsAdmin is the Go binding used to pack the parameters required for calling
// the contract method with ID 0x24d7806c.  This method will panic if any
// invalid/nil inputs are passed.
//
// Solidity: function isAdmin(address account) view returns(bool)
func (permissions *Permissions) PackIsAdmin(account common.Address) []byte {
	enc, err := permissions.abi.Pack("isAdmin", account)
	if err != nil {
		panic(err)
	}
	return enc
}

// TryPackIsAdmin is the Go binding used to pack the parameters required for calling
// the contract method with ID 0x24d7806c.  This method will return an error
// if any inputs are invalid/nil.
//
// Solidity: function isAdmin(address account) view returns(bool)
func (permissions *Permissions) TryPackIsAdmin(account common.Address) ([]byte, error) {
	return permissions.abi.Pack("isAdmin", account)
}

// UnpackIsAdmin is the Go binding that unpacks the parameters returned
// from invoking the contract method with ID 0x24d7806c.
//
// Solidity: function isAdmin(address account) view returns(bool)
func (permissions *Permissions) UnpackIsAdmin(data []byte) (bool, error) {
	out, err := permissions.abi.Unpack("isAdmin", data)
	if err != nil {
		return *new(bool), err
	}
	out0 := *abi.ConvertType(out[0], new(bool)).(*bool)
	return out0, nil
}

// PackMayDeploy is the Go binding used to pack the parameters required for calling
// the contract method with ID 0x56e54f59.  This method will panic if any
// invalid/nil inputs are passed.
//
// Solidity: function mayDeploy(address account) view returns(bool)
func (permissions *Permissions) PackMayDeploy(account common.Address) []byte {
	enc, err := permissions.abi.Pack("mayDeploy", account)
	if err != nil {
		panic(err)
	}
	return enc
}

// TryPackMayDeploy is the Go binding used to pack the parameters required for calling
// the contract method with ID 0x56e54f59.  This method will return an error
// if any inputs are invalid/nil.
//
// Solidity: function mayDeploy(address account) view returns(bool)
func (permissions *Permissions) TryPackMayDeploy(account common.Address) ([]byte, error) {
	return permissions.abi.Pack("mayDeploy", account)
}

// UnpackMayDeploy is the Go binding that unpacks the parameters returned
// from invoking the contract method with ID 0x56e54f59.
//
// Solidity: function mayDeploy(address account) view returns(bool)
func (permissions *Permissions) UnpackMayDeploy(data []byte) (bool, error) {
	out, err := permissions.abi.Unpack("mayDeploy", data)
	if err != nil {
		return *new(bool), err
	}
	out0 := *abi.ConvertType(out[0], new(bool)).(*bool)
	return out0, nil
}

// PackMaySend is the Go binding used to pack the parameters required for calling
// the contract method with ID 0x50c52c56.  This method will panic if any
// invalid/nil inputs are passed.
//
// Solidity: function maySend(address account) view returns(bool)
func (permissions *Permissions) PackMaySend(account common.Address) []byte {
	enc, err := permissions.abi.Pack("maySend", account)
	if err != nil {
		panic(err)
	}
	return enc
}

// TryPackMaySend is the Go binding used to pack the parameters required for calling
// the contract method with ID 0x50c52c56.  This method will return an error
// if any inputs are invalid/nil.
//
// Solidity: function maySend(address account) view returns(bool)
func (permissions *Permissions) TryPackMaySend(account common.Address) ([]byte, error) {
	return permissions.abi.Pack("maySend", account)
}

// UnpackMaySend is the Go binding that unpacks the parameters returned
// from invoking the contract method with ID 0x50c52c56.
//
// Solidity: function maySend(address account) view returns(bool)
func (permissions *Permissions) UnpackMaySend(data []byte) (bool, error) {
	out, err := permissions.abi.Unpack("maySend", data)
	if err != nil {
		return *new(bool), err
	}
	out0 := *abi.ConvertType(out[0], new(bool)).(*bool)
	return out0, nil
}

// PackPermissionsOf is the Go binding used to pack the parameters required for calling
// the contract method with ID 0x0aa582a3.  This method will panic if any
// invalid/nil inputs are passed.
//
// Solidity: function permissionsOf(address account) view returns(uint256)
func (permissions *Permissions) PackPermissionsOf(account common.Address) []byte {
	enc, err := permissions.abi.Pack("permissionsOf", account)
	if err != nil {
		panic(err)
	}
	return enc
}

// TryPackPermissionsOf is the Go binding used to pack the parameters required for calling
// the contract method with ID 0x0aa582a3.  This method will return an error
// if any inputs are invalid/nil.
//
// Solidity: function permissionsOf(address account) view returns(uint256)
func (permissions *Permissions) TryPackPermissionsOf(account common.Address) ([]byte, error) {
	return permissions.abi.Pack("permissionsOf", account)
}

// UnpackPermissionsOf is the Go binding that unpacks the parameters returned
// from invoking the contract method with ID 0x0aa582a3.
//
// Solidity: function permissionsOf(address account) view returns(uint256)
func (permissions *Permissions) UnpackPermissionsOf(data []byte) (*big.Int, error) {
	out, err := permissions.abi.Unpack("permissionsOf", data)
	if err != nil {
		return new(big.Int), err
	}
	out0 := abi.ConvertType(out[0], new(big.Int)).(*big.Int)
	return out0, nil
}

// PackRestrictions is the Go binding used to pack the parameters required for calling
// the contract method with ID 0xa077b298.  This method will panic if any
// invalid/nil inputs are passed.
//
// Solidity: function restrictions() view returns(uint256)
func (permissions *Permissions) PackRestrictions() []byte {
	enc, err := permissions.abi.Pack("restrictions")
	if err != nil {
		panic(err)
	}
	return enc
}

// TryPackRestrictions is the Go binding used to pack the parameters required for calling
// the contract method with ID 0xa077b298.  This method will return an error
// if any inputs are invalid/nil.
//
// Solidity: function restrictions() view returns(uint256)
func (permissions *Permissions) TryPackRestrictions() ([]byte, error) {
	return permissions.abi.Pack("restrictions")
}

// UnpackRestrictions is the Go binding that unpacks the parameters returned
// from invoking the contract method with ID 0xa077b298.
//
// Solidity: function restrictions() view returns(uint256)
func (permissions *Permissions) UnpackRestrictions(data []byte) (*big.Int, error) {
	out, err := permissions.abi.Unpack("restrictions", data)
	if err != nil {
		return new(big.Int), err
	}
	out0 := abi.ConvertType(out[0], new(big.Int)).(*big.Int)
	return out0, nil
}

// PackRevoke is the Go binding used to pack the parameters required for calling
// the contract method with ID 0xeac449d9.  This method will panic if any
// invalid/nil inputs are passed.
//
// Solidity: function revoke(address account, uint256 flags) returns()
func (permissions *Permissions) PackRevoke(account common.Address, flags *big.Int) []byte {
	enc, err := permissions.abi.Pack("revoke", account, flags)
	if err != nil {
		panic(err)
	}
	return enc
}

// TryPackRevoke is the Go binding used to pack the parameters required for calling
// the contract method with ID 0xeac449d9.  This method will return an error
// if any inputs are invalid/nil.
//
// Solidity: function revoke(address account, uint256 flags) returns()
func (permissions *Permissions) TryPackRevoke(account common.Address, flags *big.Int) ([]byte, error) {
	return permissions.abi.Pack("revoke", account, flags)
}

// PackSetPermissions is the Go binding used to pack the parameters required for calling
// the contract method with ID 0xe19267ed.  This method will panic if any
// invalid/nil inputs are passed.
//
// Solidity: function setPermissions(address account, uint256 flags) returns()
func (permissions *Permissions) PackSetPermissions(account common.Address, flags *big.Int) []byte {
	enc, err := permissions.abi.Pack("setPermissions", account, flags)
	if err != nil {
		panic(err)
	}
	return enc
}

// TryPackSetPermissions is the Go binding used to pack the parameters required for calling
// the contract method with ID 0xe19267ed.  This method will return an error
// if any inputs are invalid/nil.
//
// Solidity: function setPermissions(address account, uint256 flags) returns()
func (permissions *Permissions) TryPackSetPermissions(account common.Address, flags *big.Int) ([]byte, error) {
	return permissions.abi.Pack("setPermissions", account, flags)
}

// PackSetPermissionsBatch is the Go binding used to pack the parameters required for calling
// the contract method with ID 0xd11ea906.  This method will panic if any
// invalid/nil inputs are passed.
//
// Solidity: function setPermissionsBatch(address[] accounts, uint256[] flags) returns()
func (permissions *Permissions) PackSetPermissionsBatch(accounts []common.Address, flags []*big.Int) []byte {
	enc, err := permissions.abi.Pack("setPermissionsBatch", accounts, flags)
	if err != nil {
		panic(err)
	}
	return enc
}

// TryPackSetPermissionsBatch is the Go binding used to pack the parameters required for calling
// the contract method with ID 0xd11ea906.  This method will return an error
// if any inputs are invalid/nil.
//
// Solidity: function setPermissionsBatch(address[] accounts, uint256[] flags) returns()
func (permissions *Permissions) TryPackSetPermissionsBatch(accounts []common.Address, flags []*big.Int) ([]byte, error) {
	return permissions.abi.Pack("setPermissionsBatch", accounts, flags)
}

// PackSetRestrictions is the Go binding used to pack the parameters required for calling
// the contract method with ID 0x4570ec44.  This method will panic if any
// invalid/nil inputs are passed.
//
// Solidity: function setRestrictions(uint256 restrictions_) returns()
func (permissions *Permissions) PackSetRestrictions(restrictions *big.Int) []byte {
	enc, err := permissions.abi.Pack("setRestrictions", restrictions)
	if err != nil {
		panic(err)
	}
	return enc
}

// TryPackSetRestrictions is the Go binding used to pack the parameters required for calling
// the contract method with ID 0x4570ec44.  This method will return an error
// if any inputs are invalid/nil.
//
// Solidity: function setRestrictions(uint256 restrictions_) returns()
func (permissions *Permissions) TryPackSetRestrictions(restrictions *big.Int) ([]byte, error) {
	return permissions.abi.Pack("setRestrictions", restrictions)
}

// PermissionsPermissionsChanged represents a PermissionsChanged event raised by the Permissions contract.
type PermissionsPermissionsChanged struct {
	Account       common.Address
	PreviousFlags *big.Int
	Flags         *big.Int
	Administrator common.Address
	Raw           *types.Log // Blockchain specific contextual infos
}

const PermissionsPermissionsChangedEventName = "PermissionsChanged"

// ContractEventName returns the user-defined event name.
func (PermissionsPermissionsChanged) ContractEventName() string {
	return PermissionsPermissionsChangedEventName
}

// UnpackPermissionsChangedEvent is the Go binding that unpacks the event data emitted
// by contract.
//
// Solidity: event PermissionsChanged(address indexed account, uint256 previousFlags, uint256 flags, address indexed administrator)
func (permissions *Permissions) UnpackPermissionsChangedEvent(log *types.Log) (*PermissionsPermissionsChanged, error) {
	event := "PermissionsChanged"
	if len(log.Topics) == 0 {
		return nil, bind.ErrNoEventSignature
	}
	if log.Topics[0] != permissions.abi.Events[event].ID {
		return nil, bind.ErrEventSignatureMismatch
	}
	out := new(PermissionsPermissionsChanged)
	if len(log.Data) > 0 {
		if err := permissions.abi.UnpackIntoInterface(out, event, log.Data); err != nil {
			return nil, err
		}
	}
	var indexed abi.Arguments
	for _, arg := range permissions.abi.Events[event].Inputs {
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

// PermissionsRestrictionsChanged represents a RestrictionsChanged event raised by the Permissions contract.
type PermissionsRestrictionsChanged struct {
	PreviousRestrictions *big.Int
	Restrictions         *big.Int
	Administrator        common.Address
	Raw                  *types.Log // Blockchain specific contextual infos
}

const PermissionsRestrictionsChangedEventName = "RestrictionsChanged"

// ContractEventName returns the user-defined event name.
func (PermissionsRestrictionsChanged) ContractEventName() string {
	return PermissionsRestrictionsChangedEventName
}

// UnpackRestrictionsChangedEvent is the Go binding that unpacks the event data emitted
// by contract.
//
// Solidity: event RestrictionsChanged(uint256 previousRestrictions, uint256 restrictions, address indexed administrator)
func (permissions *Permissions) UnpackRestrictionsChangedEvent(log *types.Log) (*PermissionsRestrictionsChanged, error) {
	event := "RestrictionsChanged"
	if len(log.Topics) == 0 {
		return nil, bind.ErrNoEventSignature
	}
	if log.Topics[0] != permissions.abi.Events[event].ID {
		return nil, bind.ErrEventSignatureMismatch
	}
	out := new(PermissionsRestrictionsChanged)
	if len(log.Data) > 0 {
		if err := permissions.abi.UnpackIntoInterface(out, event, log.Data); err != nil {
			return nil, err
		}
	}
	var indexed abi.Arguments
	for _, arg := range permissions.abi.Events[event].Inputs {
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

// UnpackError attempts to decode the provided error data using user-defined
// error definitions.
func (permissions *Permissions) UnpackError(raw []byte) (any, error) {
	if bytes.Equal(raw[:4], permissions.abi.Errors["PermissionsAdministratorMustSend"].ID.Bytes()[:4]) {
		return permissions.UnpackPermissionsAdministratorMustSendError(raw[4:])
	}
	if bytes.Equal(raw[:4], permissions.abi.Errors["PermissionsInvalidAccount"].ID.Bytes()[:4]) {
		return permissions.UnpackPermissionsInvalidAccountError(raw[4:])
	}
	if bytes.Equal(raw[:4], permissions.abi.Errors["PermissionsInvalidBatch"].ID.Bytes()[:4]) {
		return permissions.UnpackPermissionsInvalidBatchError(raw[4:])
	}
	if bytes.Equal(raw[:4], permissions.abi.Errors["PermissionsInvalidFlags"].ID.Bytes()[:4]) {
		return permissions.UnpackPermissionsInvalidFlagsError(raw[4:])
	}
	if bytes.Equal(raw[:4], permissions.abi.Errors["PermissionsInvalidRestrictions"].ID.Bytes()[:4]) {
		return permissions.UnpackPermissionsInvalidRestrictionsError(raw[4:])
	}
	if bytes.Equal(raw[:4], permissions.abi.Errors["PermissionsLastAdministrator"].ID.Bytes()[:4]) {
		return permissions.UnpackPermissionsLastAdministratorError(raw[4:])
	}
	if bytes.Equal(raw[:4], permissions.abi.Errors["PermissionsUnauthorizedAccount"].ID.Bytes()[:4]) {
		return permissions.UnpackPermissionsUnauthorizedAccountError(raw[4:])
	}
	return nil, errors.New("Unknown error")
}

// PermissionsPermissionsAdministratorMustSend represents a PermissionsAdministratorMustSend error raised by the Permissions contract.
type PermissionsPermissionsAdministratorMustSend struct {
	Account common.Address
}

// ErrorID returns the hash of canonical representation of the error's signature.
//
// Solidity: error PermissionsAdministratorMustSend(address account)
func PermissionsPermissionsAdministratorMustSendErrorID() common.Hash {
	return common.HexToHash("0xe2ceb249365779b6606374212078f876b80559ee6f007396ddded87c84a0a6a6")
}

// UnpackPermissionsAdministratorMustSendError is the Go binding used to decode the provided
// error data into the corresponding Go error struct.
//
// Solidity: error PermissionsAdministratorMustSend(address account)
func (permissions *Permissions) UnpackPermissionsAdministratorMustSendError(raw []byte) (*PermissionsPermissionsAdministratorMustSend, error) {
	out := new(PermissionsPermissionsAdministratorMustSend)
	if err := permissions.abi.UnpackIntoInterface(out, "PermissionsAdministratorMustSend", raw); err != nil {
		return nil, err
	}
	return out, nil
}

// PermissionsPermissionsInvalidAccount represents a PermissionsInvalidAccount error raised by the Permissions contract.
type PermissionsPermissionsInvalidAccount struct {
	Account common.Address
}

// ErrorID returns the hash of canonical representation of the error's signature.
//
// Solidity: error PermissionsInvalidAccount(address account)
func PermissionsPermissionsInvalidAccountErrorID() common.Hash {
	return common.HexToHash("0xb78f2f6af9d7a8f82da2fc5d4b2cc14644109c84a31b4b83c0b5f90f736dddae")
}

// UnpackPermissionsInvalidAccountError is the Go binding used to decode the provided
// error data into the corresponding Go error struct.
//
// Solidity: error PermissionsInvalidAccount(address account)
func (permissions *Permissions) UnpackPermissionsInvalidAccountError(raw []byte) (*PermissionsPermissionsInvalidAccount, error) {
	out := new(PermissionsPermissionsInvalidAccount)
	if err := permissions.abi.UnpackIntoInterface(out, "PermissionsInvalidAccount", raw); err != nil {
		return nil, err
	}
	return out, nil
}

// PermissionsPermissionsInvalidBatch represents a PermissionsInvalidBatch error raised by the Permissions contract.
type PermissionsPermissionsInvalidBatch struct {
	Accounts *big.Int
	Flags    *big.Int
}

// ErrorID returns the hash of canonical representation of the error's signature.
//
// Solidity: error PermissionsInvalidBatch(uint256 accounts, uint256 flags)
func PermissionsPermissionsInvalidBatchErrorID() common.Hash {
	return common.HexToHash("0xc3ebbbb85ad9b55f524773e8c73d0875a697c32ca200bd9f2ea453c5868698ef")
}

// UnpackPermissionsInvalidBatchError is the Go binding used to decode the provided
// error data into the corresponding Go error struct.
//
// Solidity: error PermissionsInvalidBatch(uint256 accounts, uint256 flags)
func (permissions *Permissions) UnpackPermissionsInvalidBatchError(raw []byte) (*PermissionsPermissionsInvalidBatch, error) {
	out := new(PermissionsPermissionsInvalidBatch)
	if err := permissions.abi.UnpackIntoInterface(out, "PermissionsInvalidBatch", raw); err != nil {
		return nil, err
	}
	return out, nil
}

// PermissionsPermissionsInvalidFlags represents a PermissionsInvalidFlags error raised by the Permissions contract.
type PermissionsPermissionsInvalidFlags struct {
	Flags *big.Int
}

// ErrorID returns the hash of canonical representation of the error's signature.
//
// Solidity: error PermissionsInvalidFlags(uint256 flags)
func PermissionsPermissionsInvalidFlagsErrorID() common.Hash {
	return common.HexToHash("0x2658ad0ae889768c78dd9cd497b3e198c21cf2edb02e75c8bc25c2250cb74ac4")
}

// UnpackPermissionsInvalidFlagsError is the Go binding used to decode the provided
// error data into the corresponding Go error struct.
//
// Solidity: error PermissionsInvalidFlags(uint256 flags)
func (permissions *Permissions) UnpackPermissionsInvalidFlagsError(raw []byte) (*PermissionsPermissionsInvalidFlags, error) {
	out := new(PermissionsPermissionsInvalidFlags)
	if err := permissions.abi.UnpackIntoInterface(out, "PermissionsInvalidFlags", raw); err != nil {
		return nil, err
	}
	return out, nil
}

// PermissionsPermissionsInvalidRestrictions represents a PermissionsInvalidRestrictions error raised by the Permissions contract.
type PermissionsPermissionsInvalidRestrictions struct {
	Restrictions *big.Int
}

// ErrorID returns the hash of canonical representation of the error's signature.
//
// Solidity: error PermissionsInvalidRestrictions(uint256 restrictions)
func PermissionsPermissionsInvalidRestrictionsErrorID() common.Hash {
	return common.HexToHash("0xec22200e968989801270a08d417a5de957787638b9bb58d38ed6dcba2cafcc0f")
}

// UnpackPermissionsInvalidRestrictionsError is the Go binding used to decode the provided
// error data into the corresponding Go error struct.
//
// Solidity: error PermissionsInvalidRestrictions(uint256 restrictions)
func (permissions *Permissions) UnpackPermissionsInvalidRestrictionsError(raw []byte) (*PermissionsPermissionsInvalidRestrictions, error) {
	out := new(PermissionsPermissionsInvalidRestrictions)
	if err := permissions.abi.UnpackIntoInterface(out, "PermissionsInvalidRestrictions", raw); err != nil {
		return nil, err
	}
	return out, nil
}

// PermissionsPermissionsLastAdministrator represents a PermissionsLastAdministrator error raised by the Permissions contract.
type PermissionsPermissionsLastAdministrator struct {
}

// ErrorID returns the hash of canonical representation of the error's signature.
//
// Solidity: error PermissionsLastAdministrator()
func PermissionsPermissionsLastAdministratorErrorID() common.Hash {
	return common.HexToHash("0xbd38962bfc95f687892dd5ccc447ffd6169c6b3c3f6a34446ef730a4e7d0cff8")
}

// UnpackPermissionsLastAdministratorError is the Go binding used to decode the provided
// error data into the corresponding Go error struct.
//
// Solidity: error PermissionsLastAdministrator()
func (permissions *Permissions) UnpackPermissionsLastAdministratorError(raw []byte) (*PermissionsPermissionsLastAdministrator, error) {
	out := new(PermissionsPermissionsLastAdministrator)
	if err := permissions.abi.UnpackIntoInterface(out, "PermissionsLastAdministrator", raw); err != nil {
		return nil, err
	}
	return out, nil
}

// PermissionsPermissionsUnauthorizedAccount represents a PermissionsUnauthorizedAccount error raised by the Permissions contract.
type PermissionsPermissionsUnauthorizedAccount struct {
	Account common.Address
}

// ErrorID returns the hash of canonical representation of the error's signature.
//
// Solidity: error PermissionsUnauthorizedAccount(address account)
func PermissionsPermissionsUnauthorizedAccountErrorID() common.Hash {
	return common.HexToHash("0x9de3b054eab2176cb7e144fdb16c6e5d79a8646134a57345b3d4da217465d063")
}

// UnpackPermissionsUnauthorizedAccountError is the Go binding used to decode the provided
// error data into the corresponding Go error struct.
//
// Solidity: error PermissionsUnauthorizedAccount(address account)
func (permissions *Permissions) UnpackPermissionsUnauthorizedAccountError(raw []byte) (*PermissionsPermissionsUnauthorizedAccount, error) {
	out := new(PermissionsPermissionsUnauthorizedAccount)
	if err := permissions.abi.UnpackIntoInterface(out, "PermissionsUnauthorizedAccount", raw); err != nil {
		return nil, err
	}
	return out, nil
}

// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Box} from "./Box.sol";

/// @title Factory
/// @notice A sample: makes boxes for anybody. Under RESTRICT_DEPLOY that takes a transaction whose sender has DEPLOY,
/// since a contract made by a factory counts as the sender's (see Permissions).
contract Factory {
    /// @notice `creator` had `box` made.
    event BoxCreated(Box indexed box, address indexed creator, uint256 value);

    /// @notice Makes a box with CREATE. Emits {BoxCreated}.
    function create(uint256 value) external returns (Box box) {
        box = new Box(value);
        emit BoxCreated(box, msg.sender, value);
    }

    /// @notice Makes a box with CREATE2, at the address that {boxAddress} tells. Reverts without data if that box
    /// exists. Emits {BoxCreated}.
    function create2(bytes32 salt, uint256 value) external returns (Box box) {
        box = new Box{salt: salt}(value);
        emit BoxCreated(box, msg.sender, value);
    }

    /// @notice Where {create2} puts a box (EIP-1014).
    function boxAddress(bytes32 salt, uint256 value) external view returns (address) {
        bytes32 initCodeHash = keccak256(abi.encodePacked(type(Box).creationCode, abi.encode(value)));
        return address(
            uint160(uint256(keccak256(abi.encodePacked(bytes1(0xff), address(this), salt, initCodeHash))))
        );
    }
}

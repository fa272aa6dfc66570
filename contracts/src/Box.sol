// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @title Box
/// @notice A sample: holds one number that never changes.
contract Box {
    uint256 private immutable _value;

    constructor(uint256 value_) {
        _value = value_;
    }

    /// @notice What is in the box.
    function value() external view returns (uint256) {
        return _value;
    }
}

// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Counter
/// @notice What forge and Hardhat compile, deploy and call here.
contract Counter {
    uint256 private _count;

    /// @notice The count went up to `count`.
    event Incremented(address indexed by, uint256 count);

    /// @notice Nobody counts in steps of 0.
    error CounterNothingToDo();

    constructor(uint256 count_) {
        _count = count_;
    }

    /// @notice Counts up by `step`.
    function increment(uint256 step) external {
        if (step == 0) revert CounterNothingToDo();
        _count += step;
        emit Incremented(msg.sender, _count);
    }

    /// @notice How far it has come.
    function count() external view returns (uint256) {
        return _count;
    }
}

// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/**
 * @title Permissions
 * @notice Says who may send transactions, create contracts, and administer this very contract. It lives at
 * 0x0000000000000000000000000000001ed6E40001 from the genesis block on.
 *
 * @dev Every node reads this contract's storage directly, without calling it, at the turn of each transaction. The
 * layout is therefore part of the protocol and never changes; no contract may be inherited from that has storage:
 *
 *   slot 0   mapping(address => uint256)   flags of an account: SEND | DEPLOY | ADMINISTER
 *   slot 1   uint256                       number of accounts with ADMINISTER
 *   slot 2   uint256                       restrictions in force: RESTRICT_SEND | RESTRICT_DEPLOY; 0 is an open ledger
 *
 * It has no constructor: a genesis block writes the code and the slots. Invariants, kept by every call and
 * expected of a genesis block:
 *
 *   1. No bits are set but the named ones.
 *   2. Slot 1 counts the accounts with ADMINISTER.
 *   3. Where there has been an administrator, there is one. A ledger born without administrators keeps its
 *      restrictions, or their absence, for ever.
 *   4. ADMINISTER comes with SEND. Otherwise RESTRICT_SEND could silence all administrators, for good.
 *
 * Changes take effect with the next transaction, in the same block too.
 */
contract Permissions {
    /// @notice The account may send transactions while RESTRICT_SEND is in force.
    uint256 public constant SEND = 1 << 0;
    /// @notice Transactions sent by the account may create contracts, by factories too, while RESTRICT_DEPLOY is in
    /// force.
    uint256 public constant DEPLOY = 1 << 1;
    /// @notice The account may change flags and restrictions.
    uint256 public constant ADMINISTER = 1 << 2;

    /// @notice Only accounts with SEND may send transactions.
    uint256 public constant RESTRICT_SEND = 1 << 0;
    /// @notice Only transactions sent by accounts with DEPLOY may create contracts.
    uint256 public constant RESTRICT_DEPLOY = 1 << 1;

    uint256 private constant _ALL_FLAGS = SEND | DEPLOY | ADMINISTER;
    uint256 private constant _ALL_RESTRICTIONS = RESTRICT_SEND | RESTRICT_DEPLOY;

    mapping(address account => uint256 flags) private _flags;
    uint256 private _administrators;
    uint256 private _restrictions;

    /// @notice `administrator` changed the flags of `account`.
    event PermissionsChanged(
        address indexed account, uint256 previousFlags, uint256 flags, address indexed administrator
    );

    /// @notice `administrator` changed the restrictions in force.
    event RestrictionsChanged(uint256 previousRestrictions, uint256 restrictions, address indexed administrator);

    /// @notice The caller is not an administrator.
    error PermissionsUnauthorizedAccount(address account);

    /// @notice Nobody has the key of this account, so that its flags would mean nothing, and an administrator that
    /// cannot act would count as one.
    error PermissionsInvalidAccount(address account);

    /// @notice `flags` has bits that are not SEND, DEPLOY or ADMINISTER.
    error PermissionsInvalidFlags(uint256 flags);

    /// @notice `restrictions` has bits that are not RESTRICT_SEND or RESTRICT_DEPLOY.
    error PermissionsInvalidRestrictions(uint256 restrictions);

    /// @notice `account` would have ADMINISTER without SEND (invariant 4).
    error PermissionsAdministratorMustSend(address account);

    /// @notice The change would leave no administrator (invariant 3).
    error PermissionsLastAdministrator();

    /// @notice The two arrays of a batch differ in length.
    error PermissionsInvalidBatch(uint256 accounts, uint256 flags);

    /// @dev Reverts with PermissionsUnauthorizedAccount unless the caller is an administrator, and with
    /// PermissionsLastAdministrator if after the change there is none. That is judged at the end, so that a batch
    /// may name the old and the new administrator in either order.
    modifier onlyAdministrator() {
        if (!isAdmin(msg.sender)) revert PermissionsUnauthorizedAccount(msg.sender);
        _;
        if (_administrators == 0) revert PermissionsLastAdministrator();
    }

    /**
     * @notice Adds `flags` to those of `account`. Flags that it has already change nothing and emit nothing.
     *
     * Requirements: the caller is an administrator; `account` is not zero; `flags` are known; with ADMINISTER the
     * account has SEND, or is given it here. Emits {PermissionsChanged}.
     */
    function grant(address account, uint256 flags) external onlyAdministrator {
        if (flags & ~_ALL_FLAGS != 0) revert PermissionsInvalidFlags(flags);
        _setFlags(account, _flags[account] | flags);
    }

    /**
     * @notice Takes `flags` from `account`. Flags that it has not change nothing and emit nothing. An
     * administrator steps down by revoking its own ADMINISTER.
     *
     * Requirements: the caller is an administrator; `account` is not zero; `flags` are known; an administrator
     * keeps SEND; another administrator remains. Emits {PermissionsChanged}.
     */
    function revoke(address account, uint256 flags) external onlyAdministrator {
        if (flags & ~_ALL_FLAGS != 0) revert PermissionsInvalidFlags(flags);
        _setFlags(account, _flags[account] & ~flags);
    }

    /**
     * @notice Sets the flags of `account` to exactly `flags`.
     *
     * Requirements: as for {grant} and {revoke}. Emits {PermissionsChanged} if something changed.
     */
    function setPermissions(address account, uint256 flags) external onlyAdministrator {
        _setFlags(account, flags);
    }

    /**
     * @notice Sets the flags of `accounts[i]` to exactly `flags[i]`, in order, all or nothing. The caller may take
     * its own ADMINISTER on the way; the rest of the batch still counts.
     *
     * Requirements: as for {setPermissions}; the arrays are of one length. Emits {PermissionsChanged} for each
     * account that changed.
     */
    function setPermissionsBatch(address[] calldata accounts, uint256[] calldata flags) external onlyAdministrator {
        if (accounts.length != flags.length) revert PermissionsInvalidBatch(accounts.length, flags.length);
        for (uint256 i = 0; i < accounts.length; ++i) {
            _setFlags(accounts[i], flags[i]);
        }
    }

    /**
     * @notice Puts exactly `restrictions` in force; 0 opens the ledger. Administrators can always undo it
     * (invariant 4).
     *
     * Requirements: the caller is an administrator; `restrictions` are known. Emits {RestrictionsChanged} if
     * something changed.
     */
    function setRestrictions(uint256 restrictions_) external onlyAdministrator {
        if (restrictions_ & ~_ALL_RESTRICTIONS != 0) revert PermissionsInvalidRestrictions(restrictions_);
        uint256 previous = _restrictions;
        if (restrictions_ == previous) return;
        _restrictions = restrictions_;
        emit RestrictionsChanged(previous, restrictions_, msg.sender);
    }

    /// @notice The flags of `account`, whether or not a restriction makes them matter now.
    function permissionsOf(address account) external view returns (uint256) {
        return _flags[account];
    }

    /// @notice Whether `account` may send transactions now.
    function maySend(address account) external view returns (bool) {
        return _restrictions & RESTRICT_SEND == 0 || _flags[account] & SEND != 0;
    }

    /// @notice Whether transactions sent by `account` may create contracts now. Says nothing about {maySend}.
    function mayDeploy(address account) external view returns (bool) {
        return _restrictions & RESTRICT_DEPLOY == 0 || _flags[account] & DEPLOY != 0;
    }

    /// @notice Whether `account` may change flags and restrictions.
    function isAdmin(address account) public view returns (bool) {
        return _flags[account] & ADMINISTER != 0;
    }

    /// @notice The number of administrators. Who they are is told by the events, and by the genesis block.
    function administrators() external view returns (uint256) {
        return _administrators;
    }

    /// @notice The restrictions in force.
    function restrictions() external view returns (uint256) {
        return _restrictions;
    }

    /// @dev The only writer of slots 0 and 1.
    function _setFlags(address account, uint256 flags) private {
        if (account == address(0)) revert PermissionsInvalidAccount(account);
        if (flags & ~_ALL_FLAGS != 0) revert PermissionsInvalidFlags(flags);
        if (flags & ADMINISTER != 0 && flags & SEND == 0) revert PermissionsAdministratorMustSend(account);

        uint256 previous = _flags[account];
        if (flags == previous) return;
        _flags[account] = flags;

        bool was = previous & ADMINISTER != 0;
        bool is_ = flags & ADMINISTER != 0;
        if (is_ && !was) ++_administrators;
        if (was && !is_) --_administrators;

        emit PermissionsChanged(account, previous, flags, msg.sender);
    }
}

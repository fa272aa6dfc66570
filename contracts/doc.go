// Package contracts holds the Solidity that lives on a ledger, and what Go code must know of it.
//
// Model. A genesis block carries code that nobody deploys: the system contracts which the Osaka rules call into, the
// Permissions contract which the pool and the executor read, and a few contracts which tools expect at one address on
// every chain. Predeploys returns them all.
//
//	0x…1ed6E40001                 Permissions     src/Permissions.sol, compiled to artifacts/
//	0x000F3df6D732…0Beac02        EIP-4788        beacon roots: here the digest of the log
//	0x0000F90827F1…53fe2935       EIP-2935        block hashes
//	0x00000961Ef48…001f7002       EIP-7002        withdrawal requests: nobody serves them, but a block's requests are read here
//	0x0000BBdDc7CE…DDA7251        EIP-7251        consolidation requests: likewise
//	0x4e59b4484…6f26c0B4956C      EIP-7997        the deterministic deployment proxy
//	0xcA11bde05977…976CA11        Multicall3      predeploys/multicall3.hex
//
// Permissions is read by slot and not called: a read costs no gas, warms no slot, and cannot fail. This makes its
// storage layout part of the protocol:
//
//	slot 0  mapping(address => uint256)  flags of an account: FlagSend, FlagDeploy, FlagAdmin
//	slot 1  uint256                      number of accounts with FlagAdmin
//	slot 2  uint256                      restrictions in force: RestrictSend, RestrictDeploy; 0 is an open ledger
//
// Invariants, which the contract keeps and Permissions.Account establishes:
//
//  1. The layout never changes, and no bits are set but the named ones.
//  2. Slot 1 counts the accounts with FlagAdmin.
//  3. Where there has been an administrator, there is one: the last cannot be removed. A ledger born without any keeps
//     its restrictions, or their absence, for ever.
//  4. FlagAdmin comes with FlagSend. Otherwise RestrictSend could silence all administrators for good.
//
// And of the package:
//
//  5. What is committed under artifacts/ is what the pinned compiler makes of src/, and what is committed under
//     bindings/ is what the generator makes of artifacts/. `npm run check` proves the first, a test the second.
//  6. Nothing here changes for a ledger that exists: a genesis file contains the code itself.
package contracts

//go:generate go run ./internal/gen

// Package genesis reads and writes the file from which a chain begins.
//
// The file is the JSON that `geth init` and Hardhat know (config, alloc, gasLimit, coinbase, …), plus one section
// of our own under "ledgerd":
//
//	{
//	  "config":   {"chainId": 1337, …},        the Ethereum rules; Osaka at most
//	  "gasLimit": "0x8f0d180",                 the real cap of a block, not twice it
//	  "baseFeePerGas": "0x0",                  does not creep: every block has it
//	  "coinbase": "0x…",                       who is paid the tips
//	  "alloc":    {"0x…": {"balance": "0x…"}},
//	  "ledgerd":  {
//	    "engine": "local",                     the engine of the first segment of the log
//	    "dedupWindow": 65536,                  W: how many LSNs a record id is remembered
//	    "strictTimestamps": false,             true: one block a second at most, local engine only
//	    "administrators": ["<ed25519 hex>"],   who may sign a reconfiguration
//	    "threshold": 1,                        how many of them must
//	    "members": [{                          who orders the first segment
//	      "id": 1,
//	      "nodeKey": "<ed25519 hex>",          its node.key, public half
//	      "peerAddress": "10.0.0.1:9000"       where the other members dial it
//	    }, …],
//	    "permissions": {"restrictSend": true, …}
//	  }
//	}
//
// A chain that was made elsewhere, to be imported, has {"imported": true} as its section, and then the rules are any that go-ethereum knows up to Osaka.
//
// Gas limit, base fee and coinbase are the first ones: a later segment of the log may bring others.
//
// Invariants:
//
//  1. The network id is a hash over everything that decides what the chain is: the chain's rules, its first block, its
//     allocations and the ledgerd section. It does not depend on the order of keys, on white space or on how a number
//     is spelled.
//  2. A genesis that passed Validate cannot make the end of a block fail: the system contracts that the rules call
//     are there with their canonical code, and no account can produce a log that looks like an EIP-6110 deposit.
package genesis

// Package config is the operator's half of a node's settings: what one process may choose for itself without
// changing what the network agrees on (that is in genesis.json and in the log).
//
// The model is one table. [Config.keys] lists every key once, with the address of the field it sets and the
// sentence that explains it, and everything else is derived from that table: the parser, the environment overrides,
// the commented config.toml that `ledgerd init` writes, and the check that no key is misspelt.
//
//	config.toml ──parse──▶ defaults overwritten key by key ──▶ LEDGERD_SECTION_KEY overrides ──▶ Validate
//
// Invariants:
//
//  1. A key that is not in the table is an error that names it and its line: a typo must not silently leave a
//     limit or a guard at its default.
//  2. All problems of a file are reported together, each naming its key; nobody should have to restart a node six
//     times to find six mistakes.
//  3. A quantity has its unit in the value ("5s", "64MiB") or is a plain count. A bare number where a unit is needed
//     is refused, not guessed.
//  4. A configuration that would expose the node does not validate: RPC on an address that other machines reach
//     without a secret to authenticate them; metrics there, unless a second setting says that it is meant.
//  5. Zero values are never special inside a validated Config: every field holds what the node will use. Where zero
//     switches something off, its comment says so.
package config

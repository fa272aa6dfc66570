// Command ledgerd is a node of a permissioned EVM ledger on a shared log: one binary for the node itself, for making
// homes and keys, and for looking at a log.
//
// Every command is one file: dev.go, start.go, init.go, log.go, verify.go, testnet.go,
// keys.go, version.go. What they have in common:
//
//  1. stdout is for what was asked for (one line `ready …`, a table, JSON); everything a running node has to say goes to
//     stderr, as text or JSON.
//  2. The exit code tells the kind of a failure; exit.go has the table, and `ledgerd help exit-codes` prints it.
//  3. SIGINT and SIGTERM stop a node cleanly with code 0; a second one ends it at once.
package main

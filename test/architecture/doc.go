// Package architecture holds the import direction of the repository: which part may know which.
//
// The parts, called rooms here, are the folders at the top of the repository and, below consensus,
// the engines and the suites that test them. Their borders are worth more than what is behind them,
// so they are a table (rooms, in check.go) and a test, not a sentence in a document:
//
//	cmd/ledgerd ─┬─> rpc ──> ledger ──> vm ──> contracts
//	             ├─> web      │
//	             │            └─> consensus
//	             └─> consensus/<engine> ──> consensus
//
// The rules:
//
//  1. A package imports only what the table grants its room.
//  2. Only cmd/ledgerd and tests import an engine. Engines do not know each other.
//  3. A suite that tests share (consensus/logtest) is imported by tests only.
//  4. consensus knows neither the EVM nor a consensus library: go-ethereum stays out of it
//     altogether, and each consensus library stays in the engine that is made of it.
//  5. The folders at the top are the fixed ones. A new room is a decision, and starts in the table.
//  6. The table itself has no cycle.
//
// Files are parsed, not built: a file behind a build tag is held to the same rules.
package architecture

// Package oracle compares ledgerd's JSON-RPC with go-ethereum's, answer by answer.
//
// chain_test.go makes a small chain of ordinary Ethereum blocks, from proof of work through every fork up to Osaka and its blob parameter
// forks, which holds each kind of transaction, log, revert and contract. It goes into a geth that runs as a library in this process (node, eth
// and the packages that they use; with its own execution, its own indexes and its own JSON-RPC), and into a ledger by `ledgerd import`. Both are
// then asked the same, and have to answer the same: field by field, error codes, texts and data too. What differs on purpose stands in
// testdata/differences.txt, with the reason, and a line there that is of no use any more fails the test.
//
// The same answers are kept in testdata/io as execution-apis keeps its own (`>>` request, `<<` answer), so that a change shows in a diff.
package oracle

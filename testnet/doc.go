// Package testnet describes whole networks as data: how many nodes, which engine, who may do what, and which faults a test puts
// them through. `ledgerd testnet init --manifest FILE` makes such a network, the tests in test/testnet play its faults.
//
// A manifest is strict TOML; every key has a default (Default), so that a file says only what it is about:
//
//	nodes        = 4          # node i has HTTP at base_port + 10 i, its peers at + 1, CometBFT at + 2 and + 3, metrics at + 4
//	observers    = 0          # further nodes, which order nothing: they read the log, serve, and forward
//	engine       = "raft"
//	chain_id     = 1337
//	base_port    = 18545
//	hosts        = ""         # "198.18.0.0/24": node i has the address 198.18.0.(i+1) for its peers, and a loopback of its own; without: all share one
//	accounts     = 10         # with 10,000 ether each and keys of their own
//	permissioned = true       # only these accounts may send and deploy; the first of them administers
//
//	[[fault]]                 # in this order, each under load
//	do   = "kill"             # kill (SIGKILL), stop (SIGTERM), pause (SIGSTOP)
//	                          # with hosts also: cut (from the others), mute (they hear nothing of it), deafen (it hears nothing of them),
//	                          # flap (cut and whole in turn)
//	node = "leader"           # leader, follower, half (of the members, with the leader), observer, all, or a number
//	for  = "1s"               # then it is started, resumed, or connected again
//
// Hosts are made by whoever runs the nodes: the tests do, as network namespaces.
//
// Invariants:
//
//  1. A key that is not known is an error that names it.
//  2. All problems of a manifest are reported together.
package testnet

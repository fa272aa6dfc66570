package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"ledgerd/cmd/ledgerd/internal/config"
	"ledgerd/cmd/ledgerd/internal/home"
	"ledgerd/cmd/ledgerd/internal/network"
	"ledgerd/cmd/ledgerd/internal/node"
	"ledgerd/cmd/ledgerd/internal/snapshot"
	"ledgerd/consensus"
	"ledgerd/ledger"
)

// An exitCode tells scripts and supervisors what kind of end it was. The numbers from 64 on are those of BSD's
// sysexits.h, and one past them, so that they do not collide with the shell's and the Go runtime's.
type exitCode int

const (
	exitOK          exitCode = 0
	exitError       exitCode = 1
	exitUsage       exitCode = 2
	exitData        exitCode = 65
	exitNotMember   exitCode = 67
	exitUnavailable exitCode = 69
	exitUnchanged   exitCode = 70
	exitCannotMake  exitCode = 73
	exitStorage     exitCode = 74
	exitInUse       exitCode = 75
	exitDivergence  exitCode = 76
	exitPermission  exitCode = 77
	exitMismatch    exitCode = 78
	exitCutOff      exitCode = 79
	exitEngine      exitCode = 80
	exitKilled      exitCode = 130
)

type exitRow struct {
	code    exitCode
	meaning string
	advice  string
	is      func(error) bool // nil: no error leads to it
}

// exitCodes is the one table of exit codes: what a code means, which errors lead to it, and what to do. The first row
// with a matching error wins, so the graver ones stand first.
var exitCodes = []exitRow{
	{exitOK, "success; a node was asked to stop and did", "", nil},
	{exitError, "an error that has no code of its own", "read the message", nil},
	{exitUsage, "a mistake in the command line or in config.toml; a Go panic (with a stack on stderr) ends with 2 too", "mend it; restarting does not help", isUsage},
	{exitCutOff, "the log was recovered without this node, which holds entries that are not part of it any more",
		"`ledgerd log recover apply` with the recovery's files; they are kept, and the node joins again", is(consensus.ErrCutOff)},
	{exitDivergence, "a block that was executed again got another hash, or the members agree on another history than this node's",
		"do not restart; keep the home, compare with other nodes, rebuild from the log", is(ledger.ErrDivergence, consensus.ErrDiverged)},
	{exitStorage, "writing or syncing the data failed", "mend the disk (full? broken?), then restart", isStorage},
	{exitEngine, "the engine that orders the log has stopped by itself; the message says why", "restart; if it ends so again, keep the home and compare with other nodes",
		is(consensus.ErrEngineFailed)},
	{exitData, "stored data, or a snapshot's, are corrupt; the message names the position", "do not restart; restore the home, or rebuild it from the log",
		is(consensus.ErrCorrupt, ledger.ErrLogBehind, snapshot.ErrBad, ledger.ErrBadSnapshot)},
	{exitMismatch, "the data belong to another chain than the genesis or the flags", "use the home that belongs to this genesis",
		is(consensus.ErrWrongNetwork, errOtherChain, node.ErrUnknownEngine)},
	{exitNotMember, "the node is not a member of what it should order: none has its key, or its log is not the one it took part with",
		"use the member's own home; one that lost its log comes back under a new id, by a reconfiguration", is(consensus.ErrNotMember)},
	{exitUnchanged, "the log was not reconfigured: the request was refused, another one was sealed first, or too few of the next members got ready",
		"nothing has happened; mend what the message names and ask again", is(errNotReconfigured)},
	{exitInUse, "another process has the home open", "stop it, or wait for it", is(home.ErrInUse, consensus.ErrLocked)},
	{exitPermission, "others can read a file that holds a secret", "make a new secret if they may have; chmod 600", is(home.ErrTooOpen)},
	{exitCannotMake, "a file or folder cannot be made, or is there already", "look at the path in the message", is(home.ErrCannotCreate, home.ErrExists, network.ErrNotEmpty, snapshot.ErrExists)},
	{exitUnavailable, "an address cannot be listened on, or a node does not answer", "look at the address in the message", isUnavailable},
	{exitKilled, "a second signal ended the process before its clean stop had", "restart; it replays the end of the log", nil},
}

// errOtherChain means that a flag asks for another chain than the data directory holds.
var errOtherChain = errors.New("holds another chain")

// codeOf finds the exit code of an error.
func codeOf(err error) exitCode {
	if err == nil {
		return exitOK
	}
	var ended *network.Ended
	if errors.As(err, &ended) && ended.Code > 0 {
		return exitCode(ended.Code) // of `testnet up`: a node's own, which is from this table
	}
	for _, row := range exitCodes {
		if row.is != nil && row.is(err) {
			return row.code
		}
	}
	return exitError
}

// is matches errors that wrap one of the targets.
func is(targets ...error) func(error) bool {
	return func(err error) bool {
		for _, target := range targets {
			if errors.Is(err, target) {
				return true
			}
		}
		return false
	}
}

func isUsage(err error) bool {
	var usage usageError
	var setting *config.Error
	return errors.As(err, &usage) || errors.As(err, &setting) || errors.Is(err, home.ErrNotHome) || errors.Is(err, network.ErrNoNetwork)
}

func isStorage(err error) bool {
	for _, target := range []error{consensus.ErrFailed, syscall.EIO, syscall.ENOSPC, syscall.EDQUOT} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

func isUnavailable(err error) bool {
	var operation *net.OpError
	return errors.Is(err, node.ErrListen) || errors.As(err, &operation) || os.IsTimeout(err)
}

// exitCodesTopic prints the table; it is documentation, not a command.
func exitCodesTopic() *cobra.Command {
	var b strings.Builder
	b.WriteString("What the exit code of ledgerd means:\n\n")
	rows := slices.SortedFunc(slices.Values(exitCodes), func(a, b exitRow) int { return int(a.code - b.code) })
	for _, row := range rows {
		fmt.Fprintf(&b, "  %3d  %s\n", row.code, row.meaning)
		if row.advice != "" {
			fmt.Fprintf(&b, "       %s\n", row.advice)
		}
	}
	return &cobra.Command{
		Use:     "exit-codes",
		Short:   "What the exit code means, and what to do",
		Long:    b.String(),
		Example: "  ledgerd start --home ./node || echo \"ended with $?\"",
	}
}

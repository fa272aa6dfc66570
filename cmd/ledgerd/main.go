package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signals(context.Background())
	code := run(ctx, console{os.Stdout, os.Stderr, os.Getenv}, os.Args[1:])
	stop()
	os.Exit(int(code))
}

// signals ends the context at the first SIGINT or SIGTERM and the process at the second.
func signals(ctx context.Context) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	received := make(chan os.Signal, 2)
	signal.Notify(received, os.Interrupt, syscall.SIGTERM)
	go func() {
		select {
		case <-received:
			cancel()
		case <-ctx.Done():
			return
		}
		<-received
		os.Exit(int(exitKilled))
	}()
	return ctx, func() { signal.Stop(received); cancel() }
}

// console is what a command may know of its surroundings.
type console struct {
	stdout, stderr io.Writer
	getenv         func(string) string
}

// run executes one command line and returns its exit code. An error is printed once, here.
func run(ctx context.Context, c console, args []string) exitCode {
	root := c.root()
	root.SetArgs(append([]string{}, args...)) // cobra takes nil for "look at os.Args"
	root.SetOut(c.stdout)
	root.SetErr(c.stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	fmt.Fprintf(c.stderr, "ledgerd: %v\n", err)
	return codeOf(err)
}

// root assembles the commands.
func (c console) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "ledgerd",
		Short: "A permissioned EVM ledger on a shared log",
		Long: `ledgerd is a permissioned EVM ledger on a shared log.

A consensus engine orders records; the ledger plays them, executes the transactions in them, and serves
Ethereum JSON-RPC over HTTP and websocket.`,
		Example: `  ledgerd dev                          # a chain to develop against, gone when it stops
  ledgerd dev --datadir ./chain        # one that is kept
  ledgerd init --home ./node           # a node of your own ...
  ledgerd start --home ./node          # ... and running
  ledgerd testnet up --nodes 4         # four nodes on this machine`,
		Args:          cobra.NoArgs,
		SilenceUsage:  true, // an error is one line, not a page of flags
		SilenceErrors: true, // run prints it
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cmd.Help()
		},
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w; see `%s --help`", err, cmd.CommandPath())}
	})
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(c.dev(), c.start(), c.init(), c.importChain(), c.log(), c.verify(), c.snapshot(), c.testnet(), c.keys(), c.version(), exitCodesTopic())
	asUsage(root)
	return root
}

// asUsage marks the errors of every command's argument check as the caller's. A command that only groups others
// shows its help when it is called alone, and refuses a name that it does not know.
func asUsage(cmd *cobra.Command) {
	if cmd.HasSubCommands() && !cmd.Runnable() {
		cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	}
	check := cmd.Args
	if check == nil {
		check = cobra.NoArgs
	}
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usageError{fmt.Errorf("%w; see `%s --help`", err, cmd.CommandPath())}
		}
		return nil
	}
	for _, sub := range cmd.Commands() {
		asUsage(sub)
	}
}

// usageError is a mistake in the command line.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// usagef makes a usageError.
func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// isInterrupt reports that a command ended because it was told to.
func isInterrupt(ctx context.Context, err error) bool {
	return ctx.Err() != nil && errors.Is(err, context.Canceled)
}

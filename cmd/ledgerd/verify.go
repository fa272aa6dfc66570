package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"ledgerd/cmd/ledgerd/internal/node"
	"ledgerd/ledger"
)

func (c console) verify() *cobra.Command {
	var dir string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "verify --home DIR",
		Short: "Replay a node's log from the beginning and compare the result",
		Long: `Plays the stored log of a stopped node, from the genesis on, into a fresh ledger in a temporary folder (TMPDIR), and
compares the hash of the node's head with the replayed one. The hash of a block covers its transactions, receipts, state
and all blocks before it. If they differ it names the first block that does, and exits with 76.

The log itself is checked on the way: every entry against the digest of its predecessor.`,
		Example: "  ledgerd verify --home ./node",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			opts, err := c.stoppedNode(dir)
			if err != nil {
				return err
			}
			bar := newProgress(c.stderr, "replaying")
			r, err := node.Verify(cmd.Context(), opts, bar.set)
			bar.end()
			if err != nil {
				return err
			}
			if err := c.print(asJSON, r, func(w io.Writer) { printVerification(w, r) }); err != nil {
				return err
			}
			if !r.Equal {
				return fmt.Errorf("verify: %w at block %d", ledger.ErrDivergence, r.FirstDifferent)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	homeFlag(cmd, &dir)
	return cmd
}

func printVerification(w io.Writer, r node.Verification) {
	fmt.Fprintf(w, "entries   %d\nblock     %d\nstored    %v\nreplayed  %v\n", r.Entries, r.Block, r.Stored, r.Replayed)
	if r.Equal {
		fmt.Fprintln(w, "equal")
	} else {
		fmt.Fprintf(w, "different from block %d (lsn %d) on\n", r.FirstDifferent, r.FirstDifferentLSN)
	}
}

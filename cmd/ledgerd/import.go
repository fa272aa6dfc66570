package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"ledgerd/cmd/ledgerd/internal/node"
)

func (c console) importChain() *cobra.Command {
	var dir string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "import --home DIR FILE",
		Short: "Take in the blocks of another chain, to serve them",
		Long: `Appends the blocks of FILE, in the format of geth's export, to the chain of DIR, which ` + "`ledgerd init --genesis`" + ` has made from that chain's genesis
file. Each block is verified and executed under its own rules, from proof of work through the forks up to Osaka; seals are not looked at. Blocks that
are there already are passed over, and what came before a bad block stays.

` + "`ledgerd start`" + ` then serves the chain, with its last block as latest, safe and finalized. Nothing is ordered in such a home.`,
		Example: `  ledgerd init --home ./copy --genesis genesis.json
  ledgerd import --home ./copy chain.rlp
  ledgerd start --home ./copy`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts, err := c.stoppedNode(dir)
			if err != nil {
				return err
			}
			bar := newProgress(c.stderr, "importing")
			done, err := node.Import(cmd.Context(), opts, args[0], bar.set)
			bar.end()
			if err != nil {
				return err
			}
			return c.print(asJSON, done, func(w io.Writer) {
				fmt.Fprintf(w, "blocks  %d\nblock   %d\nhead    %v\n", done.Blocks, done.Block, done.Head)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	homeFlag(cmd, &dir)
	return cmd
}

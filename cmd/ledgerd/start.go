package main

import (
	"github.com/spf13/cobra"

	"ledgerd/cmd/ledgerd/internal/config"
	"ledgerd/cmd/ledgerd/internal/home"
	"ledgerd/cmd/ledgerd/internal/node"
	"ledgerd/ledger/genesis"
)

func (c console) start() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "start --home DIR",
		Short: "Run the node of a home in the foreground",
		Long: `Runs the node whose home is DIR, with the config.toml and the genesis.json that are there. Environment variables
override the file: LEDGERD_RPC_LISTEN is rpc.listen.

When it has played its log and serves, it prints one line on stdout: ready http=… ws=…
SIGTERM stops it cleanly; a second one ends it at once.`,
		Example: `  ledgerd start --home ./node
  LEDGERD_LOG_LEVEL=debug ledgerd start --home ./node`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			settings, g, err := loadHome(home.Home(dir), c.getenv)
			if err != nil {
				return err
			}
			logger, err := newLogger(c.stderr, settings.Log.Format, settings.Log.Level)
			if err != nil {
				return err
			}
			return c.serve(cmd.Context(), logger, node.Options{Config: settings, Genesis: g, Home: home.Home(dir)}, func() {})
		},
	}
	homeFlag(cmd, &dir)
	return cmd
}

// homeFlag adds --home, which has no default: a node that starts in the wrong place would make a new chain there.
func homeFlag(cmd *cobra.Command, dir *string) {
	cmd.Flags().StringVar(dir, "home", "", "home directory of the node (required)")
	inner := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *dir == "" {
			return usagef("--home is missing; see `%s --help`", cmd.CommandPath())
		}
		return inner(cmd, args)
	}
}

// loadHome reads what a home says about its node.
func loadHome(h home.Home, getenv func(string) string) (*config.Config, *genesis.Genesis, error) {
	if !h.Exists() {
		return nil, nil, usagef("%s %w", h, home.ErrNotHome)
	}
	settings, err := config.Load(h.Config(), getenv)
	if err != nil {
		return nil, nil, err
	}
	// The key is not used by an engine without peers, but one that others can read is found now and not on the day
	// when the node gets peers.
	if _, err := home.ReadKey(h.NodeKey()); err != nil {
		return nil, nil, err
	}
	g, err := readGenesis(h.Genesis())
	return settings, g, err
}

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"ledgerd/cmd/ledgerd/internal/config"
	"ledgerd/cmd/ledgerd/internal/devkeys"
	"ledgerd/cmd/ledgerd/internal/home"
	"ledgerd/cmd/ledgerd/internal/node"
	"ledgerd/ledger/genesis"
)

// initFlags are the flags of `ledgerd init`.
type initFlags struct {
	dir     string
	genesis string
	engine  string
	chainID uint64
	observe bool
	json    bool
}

func (c console) init() *cobra.Command {
	var f initFlags
	cmd := &cobra.Command{
		Use:   "init --home DIR",
		Short: "Make the home of a node: config.toml, genesis.json and a key",
		Long: `Makes DIR with a commented config.toml, the genesis.json of the chain and a new node key. Nothing is overwritten.

--genesis takes the JSON that geth's init and Hardhat know, optionally with a section "ledgerd"; the contracts that the
rules and the usual tools expect are added to it. The file of a chain that began with proof of work is taken as it is, for ` + "`ledgerd import`" + `. If it names
members, one of them must have the key of this node: make that first, with ` + "`ledgerd keys new DIR/node.key`" + `. With --observer the node is none of them: it follows the log, and can
be made a member by ` + "`ledgerd log reconfigure`" + `. Without --genesis the chain is the one of ` + "`ledgerd dev`" + `, with accounts
whose keys everybody knows.`,
		Example: `  ledgerd init --home ./node --genesis genesis.json
  ledgerd init --home ./node --chain-id 31337`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return c.runInit(cmd, f) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.genesis, "genesis", "", "genesis file; - reads stdin")
	flags.StringVar(&f.engine, "engine", "", "engine of the log's first segment ("+strings.Join(node.EngineNames(), ", ")+"); default: the genesis file's, or local")
	flags.Uint64Var(&f.chainID, "chain-id", defaultDevChainID, "chain id, without --genesis")
	flags.BoolVar(&f.observe, "observer", false, "the node is none of the members that the genesis names; it begins by following them")
	flags.BoolVar(&f.json, "json", false, "print JSON")
	homeFlag(cmd, &f.dir)
	return cmd
}

func (c console) runInit(cmd *cobra.Command, f initFlags) error {
	h := home.Home(f.dir)
	if h.Exists() {
		return fmt.Errorf("%s %w", h, home.ErrExists)
	}
	g, err := f.load(cmd)
	if err != nil {
		return err
	}
	if f.engine != "" {
		g.Ledgerd.Engine = f.engine
	}
	if names := node.EngineNames(); !slices.Contains(names, g.Ledgerd.Engine) {
		return usagef("engine %q: this program has %s", g.Ledgerd.Engine, strings.Join(names, ", "))
	}
	if err := g.Validate(); err != nil {
		return usageError{err}
	}
	id, err := g.NetworkID()
	if err != nil {
		return err
	}
	text, err := genesisText(g)
	if err != nil {
		return err
	}
	prepare := func() error { return node.Prepare(cmd.Context(), h, g) }
	if f.observe {
		if len(g.Ledgerd.Members) == 0 {
			return usagef("--observer: the genesis names no members to follow")
		}
		prepare = nil // nothing vouches for the disk of a node that is no member
	}
	if err := h.Create(config.Default().TOML(), text, prepare); err != nil {
		return err
	}
	return c.print(f.json, map[string]any{
		"home": string(h), "chainId": g.Config.ChainID, "engine": g.Ledgerd.Engine, "networkId": id, "imported": g.Ledgerd.Imported,
	}, func(w io.Writer) {
		if g.Ledgerd.Imported {
			fmt.Fprintf(w, "home        %s\nchain id    %v\nnetwork id  %v\nThis is the chain of another network: fill it with `ledgerd import`. Nothing is ordered here.\n", h, g.Config.ChainID, id)
			return
		}
		fmt.Fprintf(w, "home        %s\nchain id    %v\nengine      %s\nnetwork id  %v\n", h, g.Config.ChainID, g.Ledgerd.Engine, id)
	})
}

// load reads the genesis file, or makes the development one.
func (f initFlags) load(cmd *cobra.Command) (*genesis.Genesis, error) {
	if f.genesis == "" {
		if f.chainID == 0 {
			return nil, usagef("--chain-id is 0")
		}
		return genesis.Dev(f.chainID, devkeys.Addresses()), nil
	}
	if cmd.Flags().Changed("chain-id") {
		return nil, usagef("--chain-id and --genesis: the genesis file has the chain id")
	}
	var text []byte
	var err error
	if f.genesis == "-" {
		text, err = io.ReadAll(cmd.InOrStdin())
	} else {
		text, err = os.ReadFile(f.genesis)
	}
	if err != nil {
		return nil, usageError{err}
	}
	g, err := genesis.ParseForInit(text)
	if err != nil {
		return nil, usageError{fmt.Errorf("%s: %w", f.genesis, err)}
	}
	return g, nil
}

// genesisText writes a genesis for people: the canonical form, indented.
func genesisText(g *genesis.Genesis) ([]byte, error) {
	canonical, err := g.JSON()
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := json.Indent(&b, canonical, "", "  "); err != nil {
		return nil, err
	}
	b.WriteByte('\n')
	return b.Bytes(), nil
}

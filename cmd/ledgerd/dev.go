package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/spf13/cobra"

	"ledgerd/cmd/ledgerd/internal/config"
	"ledgerd/cmd/ledgerd/internal/devkeys"
	"ledgerd/cmd/ledgerd/internal/home"
	"ledgerd/cmd/ledgerd/internal/node"
	"ledgerd/ledger/genesis"
	"ledgerd/rpc"
)

// defaultDevChainID is the one that `geth --dev` and ganache use, which wallets know as a local chain.
const defaultDevChainID = 1337

// devFlags are the flags of `ledgerd dev`.
type devFlags struct {
	datadir   string
	http      string
	chainID   uint64
	cors      []string
	hosts     []string
	logFormat string
	logLevel  string
}

func (c console) dev() *cobra.Command {
	var f devFlags
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run one node with funded accounts, to develop against",
		Long: `Runs one node on the local engine, with ten accounts of 10,000 ether each, whose keys it prints and for which it
signs (eth_sendTransaction). HTTP, websocket, /metrics, /healthz and /readyz are on one port.

Without --datadir nothing is kept. With it, the first start makes the folder, with a config.toml and a genesis.json
that later starts use; everything acknowledged is durable.

When it serves, it prints one line on stdout: ready http=http://127.0.0.1:8545 ws=ws://127.0.0.1:8545
Everybody knows the keys: never use them on a chain that matters.`,
		Example: `  ledgerd dev
  ledgerd dev --datadir ./chain --http 127.0.0.1:0 --chain-id 31337
  ledgerd dev --cors http://localhost:5173 --log-format json 2> dev.log`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.runDev(cmd, f)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.datadir, "datadir", "", "folder of the chain; without it nothing is kept")
	flags.StringVar(&f.http, "http", "127.0.0.1:8545", "address for HTTP and websocket; port 0 picks a free one")
	flags.Uint64Var(&f.chainID, "chain-id", defaultDevChainID, "chain id of a new chain")
	flags.StringSliceVar(&f.cors, "cors", []string{"*"}, "origins of web pages that may call the node")
	flags.StringSliceVar(&f.hosts, "hosts", []string{"localhost"}, "names that a request's Host header may have, beside addresses")
	flags.StringVar(&f.logFormat, "log-format", "text", "text or json")
	flags.StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error")
	return cmd
}

// runDev makes the chain if there is none, prints the accounts and serves.
func (c console) runDev(cmd *cobra.Command, f devFlags) error {
	h := home.Home(f.datadir)
	if cmd.Flags().Changed("datadir") && f.datadir == "" {
		return usagef("--datadir is empty; leave it out to keep nothing")
	}
	if f.chainID == 0 || f.chainID > 1<<53-1 {
		return usagef("--chain-id %d: want 1 to %d, which JavaScript can represent", f.chainID, uint64(1<<53-1))
	}
	g := genesis.Dev(f.chainID, devkeys.Addresses())
	if h != "" {
		if err := createDev(h, g); err != nil {
			return err
		}
		stored, err := readGenesis(h.Genesis())
		if err != nil {
			return err
		}
		if id := stored.Config.ChainID; cmd.Flags().Changed("chain-id") && (!id.IsUint64() || id.Uint64() != f.chainID) {
			return fmt.Errorf("%s %w: its genesis.json says chain id %v, --chain-id says %d; use another --datadir", h, errOtherChain, id, f.chainID)
		}
		g = stored
	}
	settings, err := f.settings(cmd, h, c.getenv)
	if err != nil {
		return err
	}
	logger, err := newLogger(c.stderr, settings.Log.Format, settings.Log.Level)
	if err != nil {
		return err
	}
	f.warn(logger, settings)
	return c.serve(cmd.Context(), logger, node.Options{
		Config:  settings,
		Genesis: g,
		Home:    h,
		Keys:    signer(devkeys.Accounts()),
		OnePort: true,
	}, func() { printAccounts(c.stdout, g) })
}

// createDev makes a home for a development chain, unless there is one.
func createDev(h home.Home, g *genesis.Genesis) error {
	if h.Exists() {
		return nil
	}
	text, err := genesisText(g)
	if err != nil {
		return err
	}
	if err := h.Create(devConfig().TOML(), text, nil); !errors.Is(err, home.ErrExists) {
		return err
	}
	return nil
}

// devConfig is what `dev` chooses where a flag or the file in the data directory does not.
func devConfig() *config.Config {
	c := config.Default()
	c.Node.Name = "dev"
	c.RPC.CORS = []string{"*"} // pages of a development server call it; there is nothing here to protect from them
	return c
}

// settings lays the flags that were given over the file of the data directory, or over the defaults.
func (f devFlags) settings(cmd *cobra.Command, h home.Home, getenv func(string) string) (*config.Config, error) {
	c := devConfig()
	if h != "" {
		var err error
		if c, err = config.Load(h.Config(), getenv); err != nil {
			return nil, err
		}
	}
	flags := map[string]string{} // key of the configuration -> flag that has set it
	for _, flag := range []struct {
		name, key string
		set       func()
	}{
		{"http", "rpc.listen", func() { c.RPC.Listen = f.http }},
		{"cors", "rpc.cors", func() { c.RPC.CORS = f.cors }},
		{"hosts", "rpc.hosts", func() { c.RPC.Hosts = f.hosts }},
		{"log-format", "log.format", func() { c.Log.Format = f.logFormat }},
		{"log-level", "log.level", func() { c.Log.Level = f.logLevel }},
	} {
		if cmd.Flags().Changed(flag.name) {
			flag.set()
			flags[flag.key] = "--" + flag.name
		}
	}
	c.Metrics.Listen = "" // one port
	return c, validateDev(c, flags)
}

// validateDev is Config.Validate, in terms of the flags where they have set a key. A development chain may be put on a
// public address, by the flag, which is as deliberate as it gets: containers need it, and everybody knows the keys of
// the chain anyway.
func validateDev(c *config.Config, flags map[string]string) error {
	checked := *c
	if public, err := config.Reachable(c.RPC.Listen); err == nil && public && flags["rpc.listen"] != "" {
		checked.RPC.Listen = "127.0.0.1:0"
	}
	problems, ok := checked.Validate().(interface{ Unwrap() []error })
	if !ok {
		return nil
	}
	var errs []error
	for _, err := range problems.Unwrap() {
		var problem *config.Error
		if errors.As(err, &problem) && flags[problem.Key] != "" {
			err = &config.Error{Key: flags[problem.Key], Reason: problem.Reason}
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// warn says what is unusual enough to be a mistake.
func (f devFlags) warn(logger *slog.Logger, c *config.Config) {
	if public, _ := config.Reachable(c.RPC.Listen); public {
		logger.Warn("this address can be reached from other machines, and everybody knows the keys of this chain", "listen", c.RPC.Listen)
	}
}

// signer signs for the accounts of a development chain.
type signer []devkeys.Account

var _ rpc.KeyStore = signer(nil)

// Accounts implements rpc.KeyStore.
func (s signer) Accounts() []common.Address {
	addresses := make([]common.Address, len(s))
	for i, a := range s {
		addresses[i] = a.Address
	}
	return addresses
}

// Sign implements rpc.KeyStore.
func (s signer) Sign(account common.Address, hash []byte) ([]byte, error) {
	for _, a := range s {
		if a.Address == account {
			return crypto.Sign(hash, a.Key)
		}
	}
	return nil, rpc.ErrUnknownAccount
}

// printAccounts writes the accounts in Anvil's layout, which people and scripts can read already.
func printAccounts(w io.Writer, g *genesis.Genesis) {
	accounts := devkeys.Accounts()
	fmt.Fprintf(w, "Available Accounts\n==================\n\n")
	for i, a := range accounts {
		fmt.Fprintf(w, "(%d) %s (10000.000000000000000000 ETH)\n", i, a.Address)
	}
	fmt.Fprintf(w, "\nPrivate Keys\n==================\n\n")
	for i, a := range accounts {
		fmt.Fprintf(w, "(%d) %s\n", i, a.Hex())
	}
	fmt.Fprintf(w, "\nWallet\n==================\nMnemonic:          %s\nDerivation path:   %s\n", devkeys.Mnemonic, devkeys.Path)
	fmt.Fprintf(w, "\nChain ID\n==================\n\n%v\n\nBase Fee\n==================\n\n%v\n\nGas Limit\n==================\n\n%d\n\n",
		g.Config.ChainID, g.FixedBaseFee(), g.GasLimit)
}

// readGenesis reads a genesis.json of a home.
func readGenesis(path string) (*genesis.Genesis, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	g, err := genesis.Parse(text)
	if err != nil {
		return nil, usageError{fmt.Errorf("%s: %w", path, err)}
	}
	return g, nil
}

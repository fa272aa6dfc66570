package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"ledgerd/cmd/ledgerd/internal/home"
	"ledgerd/cmd/ledgerd/internal/network"
	"ledgerd/cmd/ledgerd/internal/node"
	"ledgerd/ledger/genesis"
	"ledgerd/testnet"
)

func (c console) testnet() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "testnet",
		Short: "Make and run a whole network on this machine",
		Example: `  ledgerd testnet up --nodes 4 --engine raft               # gone when it stops
  ledgerd testnet init --dir ./net --nodes 4 --engine raft # one that is kept ...
  ledgerd testnet up --dir ./net                           # ... and running`,
	}
	cmd.AddCommand(c.testnetInit(), c.testnetUp())
	return cmd
}

// testnetFlags are the flags that describe a network.
type testnetFlags struct {
	dir      string
	file     string
	manifest testnet.Manifest // what the flags say
	json     bool
}

// shape are the flags that describe a network that does not exist yet, with what each of them sets.
var shape = map[string]func(m, flags *testnet.Manifest){
	"nodes":        func(m, flags *testnet.Manifest) { m.Nodes = flags.Nodes },
	"observers":    func(m, flags *testnet.Manifest) { m.Observers = flags.Observers },
	"engine":       func(m, flags *testnet.Manifest) { m.Engine = flags.Engine },
	"chain-id":     func(m, flags *testnet.Manifest) { m.ChainID = flags.ChainID },
	"base-port":    func(m, flags *testnet.Manifest) { m.BasePort = flags.BasePort },
	"accounts":     func(m, flags *testnet.Manifest) { m.Accounts = flags.Accounts },
	"permissioned": func(m, flags *testnet.Manifest) { m.Permissioned = flags.Permissioned },
}

func (f *testnetFlags) add(cmd *cobra.Command) {
	d, flags := testnet.Default(), cmd.Flags()
	flags.StringVar(&f.file, "manifest", "", "a file that describes the network; other flags override it")
	flags.IntVar(&f.manifest.Nodes, "nodes", d.Nodes, "how many nodes that order the log")
	flags.IntVar(&f.manifest.Observers, "observers", d.Observers, "how many further nodes, which read the log, serve and forward; they can become members")
	flags.StringVar(&f.manifest.Engine, "engine", d.Engine, "engine of the log's first segment: "+strings.Join(node.EngineNames(), ", "))
	flags.Uint64Var(&f.manifest.ChainID, "chain-id", d.ChainID, "chain id")
	flags.IntVar(&f.manifest.BasePort, "base-port", d.BasePort, "port for HTTP and websocket of node 0; node i has the 10 ports from base-port + 10 i on")
	flags.IntVar(&f.manifest.Accounts, "accounts", d.Accounts, "how many funded accounts")
	flags.BoolVar(&f.manifest.Permissioned, "permissioned", d.Permissioned, "only these accounts may send and deploy, and the first of them administers; =false lets everybody")
}

// load returns the manifest of the file with the flags that were given laid over it.
func (f *testnetFlags) load(cmd *cobra.Command) (testnet.Manifest, error) {
	m := testnet.Default()
	if f.file != "" {
		var err error
		if m, err = testnet.Load(f.file); err != nil {
			return m, usageError{err}
		}
	}
	for name, set := range shape {
		if cmd.Flags().Changed(name) {
			set(&m, &f.manifest)
		}
	}
	if err := m.Validate(); err != nil {
		return m, usageError{err}
	}
	if m.Engine == genesis.EngineLocal && m.All() > 1 {
		return m, usagef("%d nodes on engine %s, which orders alone: want 1", m.All(), m.Engine)
	}
	return m, nil
}

// shaped reports whether the command line describes a network.
func (f *testnetFlags) shaped(cmd *cobra.Command) bool {
	for name := range shape {
		if cmd.Flags().Changed(name) {
			return true
		}
	}
	return f.file != ""
}

// init makes the network.
func (f *testnetFlags) init(cmd *cobra.Command, dir string) (*network.Network, error) {
	m, err := f.load(cmd)
	if err != nil {
		return nil, err
	}
	n, err := network.Init(cmd.Context(), dir, m)
	if errors.Is(err, node.ErrUnknownEngine) {
		return nil, usageError{err}
	}
	return n, err
}

func (c console) testnetInit() *cobra.Command {
	var f testnetFlags
	cmd := &cobra.Command{
		Use:   "init --dir DIR",
		Short: "Make the files of a network: homes, genesis, keys, accounts",
		Long: `Makes DIR, which must be empty or not exist, with a home for each node (node0, node1 …), admin.key, which signs
reconfigurations, and accounts.json with the keys of funded accounts: [{"address": …, "privateKey": …}].

It is the network of a consortium: only those accounts may send and deploy, and the first of them administers the permissions.
Node i serves HTTP and websocket on base-port + 10 i, its peers on + 1, metrics on + 4, all on 127.0.0.1; + 2 and + 3 are for
CometBFT. Observers are the nodes after the members: they order nothing, but they read the log, serve RPC and forward what is
sent to them, and ` + "`ledgerd log reconfigure --add`" + ` can make them members. Each home is started by ` + "`ledgerd start --home DIR/nodeI`" + `, or all of them by ` + "`ledgerd testnet up --dir DIR`" + `.`,
		Example: `  ledgerd testnet init --dir ./net --nodes 4 --engine raft --base-port 18545
  ledgerd testnet init --dir ./net --nodes 3 --observers 2
  ledgerd testnet init --dir ./net --manifest testnet/raft4.toml --permissioned=false --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.dir == "" {
				return usagef("--dir is missing; see `%s --help`", cmd.CommandPath())
			}
			n, err := f.init(cmd, f.dir)
			if err != nil {
				return err
			}
			return c.print(f.json, n, func(w io.Writer) { printNetwork(w, n) })
		},
	}
	cmd.Flags().StringVar(&f.dir, "dir", "", "folder of the network (required)")
	cmd.Flags().BoolVar(&f.json, "json", false, "print JSON")
	f.add(cmd)
	return cmd
}

func printNetwork(w io.Writer, n *network.Network) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "chain id\t%d\nengine\t%s\nnetwork id\t%v\nadministrator\t%s\naccounts\t%s\n", n.ChainID, n.Engine, n.NetworkID, n.AdminKey, n.Accounts)
	for _, node := range n.Nodes {
		peer := node.Peer
		if peer == "" {
			peer = "-"
		}
		if node.Observer {
			peer += "  observer"
		}
		fmt.Fprintf(t, "node %d\t%s\thttp %s\tpeers %s\n", node.Index, node.Home, node.HTTP, peer)
	}
	t.Flush()
}

func (c console) testnetUp() *cobra.Command {
	var f testnetFlags
	cmd := &cobra.Command{
		Use:   "up [--dir DIR]",
		Short: "Run all nodes of a network until Ctrl-C",
		Long: `Runs the nodes of the network in DIR as child processes, and prints a line for each one that serves:
ready node=0 http=… ws=… pid=…  Their messages go to DIR/nodeI/ledgerd.log. Where DIR is missing, or no network and a flag
describes one, it makes the network first; without --dir in a temporary folder, which is gone at the end.

SIGINT and SIGTERM stop all nodes cleanly. A node that ends by itself is reported and not started again: do that with
` + "`ledgerd start --home DIR/nodeI`" + `. The others go on; when all have ended, the exit code is that of the first.`,
		Example: `  ledgerd testnet up --dir ./net
  ledgerd testnet up --nodes 4 --engine raft --base-port 20000`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return c.runTestnetUp(cmd, f) },
	}
	cmd.Flags().StringVar(&f.dir, "dir", "", "folder of the network; without it a temporary one")
	f.add(cmd)
	return cmd
}

func (c console) runTestnetUp(cmd *cobra.Command, f testnetFlags) (err error) {
	dir := f.dir
	if dir == "" {
		if cmd.Flags().Changed("dir") {
			return usagef("--dir is empty; leave it out to keep nothing")
		}
		temporary, tempErr := os.MkdirTemp("", "ledgerd-testnet-")
		if tempErr != nil {
			return fmt.Errorf("%w a temporary folder: %w", home.ErrCannotCreate, tempErr)
		}
		defer func() { err = errors.Join(err, os.RemoveAll(temporary)) }()
		dir = filepath.Join(temporary, "net")
	}
	exists := home.Home(filepath.Join(dir, "node0")).Exists()
	switch {
	case exists && f.shaped(cmd):
		return usagef("%s holds a network; the flags that describe one are for a new one", dir)
	case !exists && f.dir != "" && !f.shaped(cmd):
		return fmt.Errorf("%s %w", dir, network.ErrNoNetwork)
	case !exists:
		n, err := f.init(cmd, dir)
		if err != nil {
			return err
		}
		fmt.Fprintf(c.stdout, "accounts %s\n", n.Accounts)
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	return network.Up(cmd.Context(), network.Options{Dir: dir, Program: program, Stdout: c.stdout, Stderr: c.stderr})
}
